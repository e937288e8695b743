"""DGL's network: its shape, and pooling to any size against a plain loop."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.auxiliary.mlp_sr import AdaptiveAveragePool, mlp_sr
from sedona_tf.backbones.part import build_part


def plain(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Adaptive average pooling by its definition."""
    height, width = x.shape[1:3]
    result = np.zeros((len(x), rows, columns, x.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            top, left = math.floor(i * height / rows), math.floor(j * width / columns)
            bottom = math.ceil((i + 1) * height / rows)
            right = math.ceil((j + 1) * width / columns)
            result[:, i, j] = x[:, top:bottom, left:right].mean((1, 2))
    return result


@pytest.mark.parametrize("size", range(1, 24))
def test_adaptive_pooling(size, float64):
    x = np.random.default_rng(size).standard_normal((2, size, 24 - size, 3))
    for sides in ((1, 1), (2, 2), (-(-size // 4), -(-(24 - size) // 4)), (size, 30)):
        pooled = AdaptiveAveragePool(sides)(tf.constant(x))
        np.testing.assert_allclose(pooled, plain(x, *sides), rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [(32, 32), (7, 7), (14, 14), (3, 5), (9, 1)], ids=str)
def test_what_is_pooled_and_flattened(size, float64):
    """With the layers between taken away: both poolings, then channels before positions."""
    net = build_part("aux", (*size, 3), lambda x: mlp_sr(x, num_classes=4, narrow=False))
    x = np.random.default_rng(0).standard_normal((2, *size, 3))
    between = {layer.name: layer for layer in net.layers}
    y = tf.constant(x)
    for name in ("pool_0", "pool_1", "permute", "flatten"):
        y = between[name](y) if name in between else y
    quarter = [math.ceil(side / 4) for side in size]
    expected = plain(plain(x, *quarter), *(min(side, 2) for side in quarter))
    np.testing.assert_allclose(y, expected.transpose(0, 3, 1, 2).reshape(2, -1), atol=1e-14)
    width = y.shape[-1]
    kernels = [v.shape for v in net.trainable_variables if v.name == "kernel"]
    assert kernels == [(1, 1, 3, 3)] * 3 + [(width, width)] * 3 + [(width, 4)]


def test_narrow_changes_nothing():
    configs = [
        build_part("aux", (8, 8, 4), lambda x, n=n: mlp_sr(x, num_classes=4, narrow=n)).get_config()
        for n in (False, True)
    ]
    assert configs[0] == configs[1]


def test_even_windows_need_no_layer_of_ours():
    net = build_part("aux", (32, 32, 4), lambda x: mlp_sr(x, num_classes=4, narrow=False))
    assert not any(isinstance(layer, AdaptiveAveragePool) for layer in net.layers)
    assert isinstance(net.get_layer("pool_0"), keras.layers.AveragePooling2D)
