"""Evaluates a trained run: the error of every block's classifier, of the head and of ensembles."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
