"""Auxiliary networks: small classifiers that give a block its local loss."""

from sedona_tf.auxiliary.losses import CrossEntropy, cross_entropy
from sedona_tf.auxiliary.registry import (
    Candidate,
    Kind,
    build_auxiliary,
    candidates_from,
    kinds,
    register,
)

__all__ = [
    "Candidate",
    "CrossEntropy",
    "Kind",
    "build_auxiliary",
    "candidates_from",
    "cross_entropy",
    "kinds",
    "register",
]
