"""Backbones: chains of units that a cut can follow."""

import sedona_tf.environment.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.registry import build, names

__all__ = ["Backbone", "build", "names"]
