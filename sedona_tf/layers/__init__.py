"""Layers that are exact where the search differentiates twice."""

import sedona_tf.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.layers.batch_normalization import BatchNormalization, batch_normalize
from sedona_tf.layers.convolution import conv, depthwise_conv
from sedona_tf.layers.pointwise_pool import PointwisePool

__all__ = ["BatchNormalization", "PointwisePool", "batch_normalize", "conv", "depthwise_conv"]
