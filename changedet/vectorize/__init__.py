"""Masks and probabilities become polygons with attributes. No torch."""

from changedet.vectorize.vectorize import Findings, Labels, LayerSink, vectorize

__all__ = ["Findings", "Labels", "LayerSink", "vectorize"]
