"""Benchmarks, run by hand: `python -m benchmarks` for the table, and the modules below by themselves."""
