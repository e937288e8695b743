"""Measures what a network's parts cost here, and predicts what cutting it would gain."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
