"""Masks and probabilities become polygons with attributes. No torch."""

from changedet.vectorize.images import Imagery
from changedet.vectorize.vectorize import Findings, Labels, LayerSink, vectorize

__all__ = ["Findings", "Imagery", "Labels", "LayerSink", "vectorize"]
