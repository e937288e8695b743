"""PredSim's loss against its definition in plain NumPy, and its two networks' shapes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.auxiliary.predsim import SpatialDeviation, predsim, predsim_loss, similarity
from sedona_tf.backbones.part import build_part


def correlations(rows: np.ndarray) -> np.ndarray:
    """The cosine of centred rows is their correlation."""
    return np.corrcoef(rows)


def test_loss_against_the_definition():
    rng = np.random.default_rng(0)
    features, logits = rng.standard_normal((6, 9)), rng.standard_normal((6, 4))
    labels = np.array([0, 3, 3, 1, 2, 0])
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    prediction = -np.mean(log_probability[np.arange(6), labels])
    match = np.mean((correlations(features) - correlations(np.eye(4)[labels])) ** 2)
    outputs = {"features": tf.constant(features), "logits": tf.constant(logits)}
    for smoothing in (0.0, 0.1):  # plain labels, whatever the others train on
        loss = predsim_loss(outputs, tf.constant(labels), smoothing)
        # the norms' epsilon, 1e-8, is what is left
        np.testing.assert_allclose(loss, 0.01 * prediction + 0.99 * match, rtol=1e-7)


def test_similarity_of_a_row_without_direction_is_zero():
    rows = tf.constant([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(rows)
        found = similarity(rows)
    np.testing.assert_allclose(found, [[0.0, 0.0], [0.0, 1.0]], atol=1e-6)
    assert np.all(np.isfinite(tape.gradient(found, rows)))


def test_deviation_against_numpy():
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 4)).astype("float32")
    found = SpatialDeviation()(tf.constant(x))
    np.testing.assert_allclose(found, x.reshape(2, 15, 4).std(1, ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(SpatialDeviation()(tf.constant(x[:, :1, :1])), x[:, 0, 0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_only_how_the_inputs_are_given(dtype):
    """Sums of squares beyond float16's 65504, and a constant map, whose row has norm zero."""
    rng = np.random.default_rng(2)
    maps, logits = rng.uniform(-100, 100, (4, 32, 32, 3)), rng.standard_normal((4, 3))
    maps[0] = 2.0

    def loss_and_gradient(policy, maps, logits):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            features = SpatialDeviation(dtype=policy)(maps)
            loss = predsim_loss({"features": features, "logits": logits}, tf.constant([0, 1, 2, 0]))
        return loss, tape.gradient(loss, maps)

    half = [tf.cast(each, dtype) for each in (maps, logits)]
    loss, gradient = loss_and_gradient(f"mixed_{dtype}", *half)
    wanted = loss_and_gradient("float32", *[tf.cast(each, "float32") for each in half])
    assert loss.dtype == "float32" and np.isfinite(loss) and np.all(np.isfinite(wanted[1]))
    np.testing.assert_array_equal(loss, wanted[0])
    np.testing.assert_array_equal(gradient, tf.cast(wanted[1], dtype))


def test_float32_and_float64_stay_what_they_are():
    rows = np.random.default_rng(3).standard_normal((4, 5, 5, 2))
    for dtype in ("float32", "float64"):
        features = SpatialDeviation(dtype=dtype)(tf.constant(rows, dtype))
        assert features.dtype == dtype
        assert predsim_loss({"features": features, "logits": features}, [0, 1, 1, 0]).dtype == dtype


@pytest.mark.parametrize(
    ("shape", "windows"),
    [
        ((32, 32, 16), (8, 4)),
        ((16, 16, 32), (4, 4)),
        ((8, 8, 64), (4, 2)),
        ((4, 4, 128), (2, 2)),
        ((4, 4, 32), None),
        ((2, 2, 512), (2, 2)),
        ((1, 1, 2048), None),
        ((1, 1, 8), None),
        ((2, 32, 16), (1, 2)),
        ((7, 7, 128), (4, 4)),
    ],
)
def test_pooling_before_the_classifier(shape, windows):
    net = build_part("aux", shape, lambda x: predsim(x, num_classes=10, narrow=False))
    pools = [layer for layer in net.layers if layer.name == "pool"]
    assert [layer.pool_size for layer in pools] == ([windows] if windows else [])
    down, across = windows or (1, 1)
    inputs = shape[2] * -(-shape[0] // down) * -(-shape[1] // across)
    assert net.get_layer("dense_0").kernel.shape == (inputs, 10)
    assert inputs <= max(512, shape[2])


def test_a_window_over_the_edge_averages_what_there_is():
    net = build_part("aux", (7, 7, 128), lambda x: predsim(x, num_classes=10, narrow=False))
    pooled = net.get_layer("pool")(tf.ones((1, 7, 7, 128)))
    np.testing.assert_array_equal(pooled, np.ones((1, 2, 2, 128)))
