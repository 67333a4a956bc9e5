"""Results that travel: one file with a run in it, and folders of such files that many people fill."""
