"""Trains a network as gradient-isolated blocks, or end to end for comparison."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
