"""Normalisation against numpy; augmentation against every crop there is."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.data import Normalization, augment

KEY = tf.constant([7, 11], tf.int64)
IMAGES = np.random.default_rng(0).integers(1, 256, (300, 5, 6, 2), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalization(dtype):
    images = np.random.default_rng(1).integers(0, 256, (2500, 3, 4, 3)).astype(np.uint8)
    images[..., 2] = 51
    unit = images / 255.0
    images = images if dtype == np.uint8 else unit.astype(np.float32)
    indices = np.arange(0, 2500, 2)
    normalization = Normalization.fit(images, indices)
    mean, std = unit[indices].mean((0, 1, 2)), unit[indices].std((0, 1, 2))
    std[2] = 1  # The constant channel.
    # float32 images carry 6e-8 each.
    np.testing.assert_allclose(normalization.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(normalization.std, std, rtol=1e-6)
    result = normalization(tf.constant(images))
    assert result.dtype == tf.float32
    # Values reach 2 in float32.
    np.testing.assert_allclose(result, (unit - mean) / std, atol=1e-6)


def crop(padded, top, left, mirrored):
    """A slow twin of one image's augmentation."""
    part = padded[top : top + 5, left : left + 6]
    return part[:, ::-1] if mirrored else part


@pytest.mark.parametrize(("pad", "flip"), [(2, True), (2, False), (0, True)])
def test_augment_gives_crops_and_all_of_them(pad, flip):
    result = augment(tf.constant(IMAGES), KEY, pad=pad, flip=flip).numpy()
    assert (result.shape, result.dtype) == (IMAGES.shape, IMAGES.dtype)
    padded = np.pad(IMAGES, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    places = range(2 * pad + 1)
    choices = [(top, left, way) for top in places for left in places for way in range(1 + flip)]
    seen = []
    for before, after in zip(padded, result, strict=True):
        matches = [one for one in choices if np.array_equal(crop(before, *one), after)]
        assert len(matches) == 1
        seen += matches
    # 300 draws of 50: missing a given choice has probability 0.98**300 = 0.002; the key is fixed.
    assert len(set(seen)) >= 0.9 * len(choices)
    if flip:
        # Five standard deviations of 300 fair coins.
        assert abs(sum(one[2] for one in seen) - 150) < 43


def test_augment_is_a_function_of_the_key():
    images = tf.constant(IMAGES)
    first = augment(images, KEY).numpy()
    np.testing.assert_array_equal(first, augment(images, KEY))
    np.testing.assert_array_equal(first, tf.function(augment)(images, KEY))
    assert not np.array_equal(first, augment(images, KEY + 1))


def test_augment_identity():
    np.testing.assert_array_equal(augment(tf.constant(IMAGES), KEY, pad=0, flip=False), IMAGES)
