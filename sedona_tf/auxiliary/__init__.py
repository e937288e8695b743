"""Auxiliary networks: small classifiers that give a block its local loss."""

import sedona_tf.environment.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.auxiliary.losses import CrossEntropy, cross_entropy
from sedona_tf.auxiliary.option import Option
from sedona_tf.auxiliary.registry import (
    Candidate,
    Kind,
    build_auxiliary,
    candidates_from,
    check_candidates,
    kinds,
    register,
)
from sedona_tf.auxiliary.space import AuxiliarySpace

__all__ = [
    "AuxiliarySpace",
    "Candidate",
    "CrossEntropy",
    "Kind",
    "Option",
    "build_auxiliary",
    "candidates_from",
    "check_candidates",
    "cross_entropy",
    "kinds",
    "register",
]
