"""What a search does beyond its model's steps."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sedona_tf.bilevel.run import architecture_optimizer
from sedona_tf.recipe import paper


def moves(clip_norm: float, sizes: list[float]) -> list[float]:
    """How far a variable moves in steps whose gradients have these norms and one direction."""
    settings = paper().search
    settings.architecture_clip_norm = clip_norm
    optimizer = architecture_optimizer(settings)
    variable = keras.Variable(np.zeros((2, 2), "float32"))
    places = [0.0]
    for size in sizes:
        optimizer.apply([keras.ops.full((2, 2), size / 2)], [variable])
        places.append(float(variable[0, 0]))
    return [before - after for before, after in zip(places, places[1:], strict=False)]


def test_one_outlier_does_not_stop_the_search():
    """Clipped, it counts as any other; unclipped, the steps after it are ten times too short."""
    usual, outlier = [0.01] * 14, [0.01] * 5 + [1.0] + [0.01] * 8
    np.testing.assert_allclose(moves(0.01, outlier), moves(0.01, usual), rtol=1e-5)
    assert moves(0.01, usual)[-1] == pytest.approx(0.01, rel=1e-3)  # the learning rate
    assert moves(10.0, outlier)[-1] < 0.1 * moves(10.0, usual)[-1]
