"""Hosts that share a training: their addresses, workers, and a watch on those that stop."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
