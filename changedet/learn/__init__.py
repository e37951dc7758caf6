"""Labelled data, the training loop, and evaluation from pooled counts."""
