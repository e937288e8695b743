"""Resizing of image arrays."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["resize", "resize_batch"]

_CHUNK_SIZE = 1024


def resize(images: np.ndarray, image_size: int) -> np.ndarray:
    """Resizes to squares, bilinear with antialiasing; the aspect ratio is not kept.

    Args:
        images: uint8 or float32 `(N, H, W, C)`.
        image_size: height and width in pixels; 0 returns `images` as they are.

    Returns:
        `(N, image_size, image_size, C)` of the dtype of `images`; uint8 is rounded to nearest.
    """
    if image_size == 0 or images.shape[1:3] == (image_size, image_size):
        return images
    result = np.empty((len(images), image_size, image_size, images.shape[3]), images.dtype)
    with tf.device("/CPU:0"):
        for start in range(0, len(images), _CHUNK_SIZE):
            chunk = tf.constant(images[start : start + _CHUNK_SIZE])
            size = (image_size, image_size)
            result[start : start + _CHUNK_SIZE] = resize_batch(
                chunk, size, images.dtype == np.uint8
            )
    return result


def resize_batch(images: tf.Tensor, size: tuple[int, int], whole: bool) -> tf.Tensor:
    """What `resize` does to some of its images, also inside a graph.

    Args:
        images: `(N, H, W, C)`, any real type.
        size: height and width in pixels.
        whole: round to whole numbers from 0 to 255, as images stored as uint8 are.

    Returns:
        `(N, *size, C)` float32.
    """
    images = tf.image.resize(tf.cast(images, tf.float32), size, "bilinear", antialias=True)
    return tf.clip_by_value(tf.round(images), 0.0, 255.0) if whole else images
