"""What ``import dix`` offers besides the parts themselves: maps and benchmarks in a notebook, by one engine."""
