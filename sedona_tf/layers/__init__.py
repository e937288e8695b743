"""Layers that are exact where the search differentiates twice."""

import sedona_tf.environment.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.layers.batch_normalization import BatchNormalization, batch_normalize
from sedona_tf.layers.convolution import conv, depthwise_conv
from sedona_tf.layers.moments import exact_moments
from sedona_tf.layers.pointwise_pool import PointwisePool
from sedona_tf.layers.without_activation import WithoutActivation

__all__ = [
    "BatchNormalization",
    "PointwisePool",
    "WithoutActivation",
    "batch_normalize",
    "conv",
    "depthwise_conv",
    "exact_moments",
]
