"""What several test modules need: networks, stores, jobs, a browser, a SLURM of one node."""
