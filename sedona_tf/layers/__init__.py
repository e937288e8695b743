"""Layers that are exact where the search differentiates twice."""

from sedona_tf.layers.batch_normalization import BatchNormalization, batch_normalize
from sedona_tf.layers.convolution import conv, depthwise_conv

__all__ = ["BatchNormalization", "batch_normalize", "conv", "depthwise_conv"]
