"""Does a metric know a good explanation from a bad one? Explainers made worse in known steps, and metrics' ranks."""
