"""Images made from a seed, learnable by class."""

from __future__ import annotations

import numpy as np

from sedona_tf.data.memory import LabelledImages

__all__ = ["synthetic"]

_CELLS = 4
_SPLIT_SEEDS = {"train": 1, "test": 2}


def synthetic(
    split: str, *, count: int = 1024, image_size: int = 32, num_classes: int = 10
) -> LabelledImages:
    """A 4 x 4 mosaic of colours per class, the same in both splits, under uniform noise.

    Args:
        split: `train` or `test`; they share the mosaics, not the noise.
        count: of images; classes differ by at most one image.
        image_size: height and width in pixels.
        num_classes: of mosaics.

    Returns:
        Images uint8 `(count, image_size, image_size, 3)` and their labels.
    """
    mosaics = np.random.default_rng(0).uniform(0, 160, (num_classes, _CELLS, _CELLS, 3))
    cell = np.arange(image_size) * _CELLS // image_size
    random = np.random.default_rng(_SPLIT_SEEDS[split])
    labels = random.permutation(np.arange(count) % num_classes).astype(np.int32)
    patterns = mosaics[:, cell][:, :, cell].astype(np.uint8)
    noise = random.integers(0, 96, (count, image_size, image_size, 3), dtype=np.uint8)
    return LabelledImages(patterns[labels] + noise, labels, num_classes)
