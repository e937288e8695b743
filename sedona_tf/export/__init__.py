"""Exports a trained run as a SavedModel for TensorFlow Serving."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
