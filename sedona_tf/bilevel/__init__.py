"""The bilevel problem: inner steps on the weights, an outer step on the architecture."""

import sedona_tf.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.bilevel.field import Field, State, relaxed_field, validation_loss
from sedona_tf.bilevel.hypergradient import Hypergradient, hypergradient
from sedona_tf.bilevel.inner_optimizer import InnerOptimizer
from sedona_tf.bilevel.search_model import SearchModel
from sedona_tf.bilevel.snapshots import SnapshotPool
from sedona_tf.bilevel.supernet import Supernet

__all__ = [
    "Field",
    "Hypergradient",
    "InnerOptimizer",
    "SearchModel",
    "SnapshotPool",
    "State",
    "Supernet",
    "hypergradient",
    "relaxed_field",
    "validation_loss",
]
