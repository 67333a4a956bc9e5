"""The benchmark engine: jobs, evaluation, store, statistics and reports."""
