"""Builders of the networks that the benchmark explains; each returns a plain torch module in evaluation mode."""
