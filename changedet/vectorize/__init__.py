"""Masks and probabilities become polygons with attributes. No torch."""

from changedet.vectorize.vectorize import Vectors, vectorize

__all__ = ["Vectors", "vectorize"]
