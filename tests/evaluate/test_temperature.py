"""Temperatures against closed forms and a brute-force grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sedona_tf.evaluate.temperature import (
    TEMPERATURES,
    fit_temperature,
    negative_log_likelihood,
)


def sample(seed: int, count: int = 400, classes: int = 5, scale: float = 3.0):
    """Logits, and labels drawn from softmax(logits / 2)."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((count, classes))
    chances = np.exp(logits / 2) / np.exp(logits / 2).sum(1, keepdims=True)
    return logits, np.array([rng.choice(classes, p=row) for row in chances])


def test_likelihood_is_the_mean_over_images():
    logits, labels = sample(0, count=20)
    slow = [
        math.log(sum(math.exp(z / 1.7) for z in row)) - row[label] / 1.7
        for row, label in zip(logits, labels, strict=True)
    ]
    # rtol: rounding of sums of a few float64
    np.testing.assert_allclose(
        negative_log_likelihood(logits, labels, 1.7), np.mean(slow), rtol=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_point_of_a_grid_is_better(seed):
    logits, labels = sample(seed)
    grid = np.geomspace(*TEMPERATURES, 3001)
    losses = [negative_log_likelihood(logits, labels, each) for each in grid]
    found = fit_temperature(logits, labels)
    assert negative_log_likelihood(logits, labels, found) <= min(losses) + 1e-12
    # neighbours on the grid differ by 0.2 %
    np.testing.assert_allclose(found, grid[np.argmin(losses)], rtol=0.0021)
    assert 1.5 < found < 2.7  # the labels' own temperature is 2


@pytest.mark.parametrize("right", [6, 8, 9])
def test_closed_form_of_two_classes(right):
    """Ten images with the margin 3, `right` of them right: sigmoid(3 / T) = right / 10."""
    labels = np.array([0] * right + [1] * (10 - right))
    expected = 3 / math.log(right / (10 - right))
    # rtol: the search stops at 1e-6 in log T, and near a minimum cannot see beyond 1e-8
    np.testing.assert_allclose(
        fit_temperature(np.array([[3.0, 0.0]] * 10), labels), expected, rtol=1e-5
    )


def test_scaled_and_shifted_logits():
    logits, labels = sample(3)
    found = fit_temperature(logits, labels)
    np.testing.assert_allclose(fit_temperature(3 * logits, labels), 3 * found, rtol=1e-5)
    shifted = logits + 1000 * np.arange(len(logits))[:, None]
    np.testing.assert_allclose(fit_temperature(shifted, labels), found, rtol=1e-5)


def always_right():
    return np.eye(4) * 10, np.arange(4)


def flat():
    return np.zeros((4, 3)), np.array([0, 1, 2, 0])


def huge():
    return np.array([[1e30, 0.0], [1e30, 0.0]]), np.array([0, 1])


def hopeless():
    return np.array([[5.0, 0.0]] * 4), np.ones(4, int)


@pytest.mark.parametrize(
    ("case", "at_least", "at_most"),
    [(always_right, 0.05, 0.3), (flat, 1, 1), (huge, 19.99, 20), (hopeless, 19.99, 20)],
)
def test_never_worse_than_no_temperature(case, at_least, at_most):
    logits, labels = case()
    found = fit_temperature(logits, labels)
    assert at_least <= found <= at_most
    before, after = (negative_log_likelihood(logits, labels, each) for each in (1.0, found))
    assert after <= before and math.isfinite(after)
