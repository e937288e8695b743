"""Searches for a plan: where to cut a network and which auxiliary net to put at each cut."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
