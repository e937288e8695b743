"""Resizing of image arrays."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["resize"]

_CHUNK = 1024


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
        for start in range(0, len(images), _CHUNK):
            chunk = tf.image.resize(
                images[start : start + _CHUNK], (image_size, image_size), "bilinear", antialias=True
            ).numpy()
            if images.dtype == np.uint8:
                chunk = np.clip(np.rint(chunk), 0, 255)
            result[start : start + _CHUNK] = chunk
    return result
