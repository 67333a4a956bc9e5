"""Jobs: planned, run, forecast, checked."""
