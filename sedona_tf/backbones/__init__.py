"""Backbones: chains of units that a cut can follow."""

from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.registry import build, names

__all__ = ["Backbone", "build", "names"]
