"""Tunes cuts and auxiliary nets with keras-tuner: every trial is a training of its own."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
