"""The benchmark: jobs, evaluation, stored results, and what is made of them."""
