"""Normalisation by the training part's statistics, and random crops and flips."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import tensorflow as tf
from msgspec import Meta

from sedona_tf import json_file

__all__ = ["Normalization", "augment"]

_CHUNK_SIZE = 1024
_SMALLEST_STD = 1e-4


class Normalization(json_file.Typed, frozen=True):
    """`(x - mean) / std` per channel, on images from 0 to 1.

    Attributes:
        mean: of each channel.
        std: of each channel.
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Meta(gt=0)], ...]

    @classmethod
    def fit(cls, images: np.ndarray, indices: np.ndarray) -> Normalization:
        """Takes the statistics of some of the images.

        Args:
            images: `(N, H, W, C)`, uint8 from 0 to 255 or float32 from 0 to 1.
            indices: `(M,)`, of the images to take them from: the training part.

        Returns:
            The normalisation; a channel with a standard deviation below 1e-4 is taken for
            constant and gets 1.
        """
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        total, squares = np.zeros(images.shape[3]), np.zeros(images.shape[3])
        for start in range(0, len(indices), _CHUNK_SIZE):
            values = images[indices[start : start + _CHUNK_SIZE]].astype(np.float64) / scale
            total += values.sum((0, 1, 2))
            squares += np.square(values).sum((0, 1, 2))
        count = len(indices) * images.shape[1] * images.shape[2]
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
        std = np.where(std < _SMALLEST_STD, 1.0, std)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Normalises `(..., C)`, uint8 or float32, to float32 of the same shape."""
        scale = 255.0 if images.dtype == tf.uint8 else 1.0
        mean, std = tf.constant(self.mean, tf.float32), tf.constant(self.std, tf.float32)
        return (tf.cast(images, tf.float32) / scale - mean) / std


def augment(images: tf.Tensor, key: tf.Tensor, pad: int = 4, flip: bool = True) -> tf.Tensor:
    """Pads with zeros, crops each image back to its size at random, and mirrors half of them.

    To be called before normalisation, so that the padding is black, as in the papers' pipelines.

    Args:
        images: `(B, H, W, C)` of any dtype, with static H and W.
        key: int64 `(2,)`; the result is a function of it and of `images`.
        pad: pixels on each side; 0 for no crop.
        flip: mirror left to right with probability 1/2.

    Returns:
        Images of the same shape and dtype.
    """
    shape = images.shape
    batch, height, width = tf.shape(images)[0], shape[1], shape[2]
    offsets = tf.random.stateless_uniform(
        (batch, 2), tf.random.experimental.stateless_fold_in(key, 0), 0, 2 * pad + 1, tf.int32
    )
    rows = offsets[:, :1] + tf.range(height)
    columns = tf.tile(tf.range(width)[tf.newaxis], (batch, 1))
    if flip:
        coins = tf.random.stateless_uniform(
            (batch, 1), tf.random.experimental.stateless_fold_in(key, 1), 0, 2, tf.int32
        )
        columns = tf.where(coins == 1, width - 1 - columns, columns)
    columns = offsets[:, 1:] + columns
    padded = tf.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    result = tf.gather(padded, rows, axis=1, batch_dims=1)
    result = tf.gather(result, columns, axis=2, batch_dims=1)
    return tf.ensure_shape(result, shape)
