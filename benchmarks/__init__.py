"""Benchmarks, run by hand: `python -m benchmarks.large_pair`."""
