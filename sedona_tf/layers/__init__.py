"""Layers that are exact where the search differentiates twice."""

from sedona_tf.layers.batch_normalization import BatchNormalization, moments
from sedona_tf.layers.convolution import conv, depthwise_conv

__all__ = ["BatchNormalization", "conv", "depthwise_conv", "moments"]
