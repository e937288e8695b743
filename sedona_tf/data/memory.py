"""Labelled images in memory: their form, and how large they may be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sedona_tf.errors import UserError

__all__ = ["LabelledImages", "require_memory"]

_LARGEST_BYTES = 4 * 2**30


class LabelledImages(NamedTuple):
    """What a reader of data returns.

    Attributes:
        images: uint8 or float32 `(N, H, W, C)`.
        labels: int32 `(N,)`, from 0.
        num_classes: by the data's own account; None if they do not say.
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int | None


def require_memory(name: str, size: int) -> None:
    """Refuses data above 4 GiB.

    Args:
        name: of the data.
        size: bytes of the images as arrays, decoded and resized.

    Raises:
        UserError: if they are more.
    """
    if size > _LARGEST_BYTES:
        raise UserError(
            f"data '{name}' takes {size / 2**30:.1f} GiB; it is held in memory. Allowed: 4 GiB. "
            "A limit or a smaller image_size helps."
        )
