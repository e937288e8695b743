"""The guard against numbers that are not finite: what it says, and that none are saved."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.errors import UserError
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.nan_guard import NanGuard, first_not_finite

NAN = float("nan")


def part(weight: float, *statistics: float) -> list[keras.Variable]:
    weights = [keras.Variable([1.0, weight])]
    return [*weights, *(keras.Variable([each], trainable=False) for each in statistics)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"unit 1": part(NAN, 1.0), "unit 2": part(NAN, 1.0, np.inf)}, "unit 2"),
        ({"unit 1": part(NAN, 1.0), "net 1": part(np.inf), "unit 2": part(1.0, 1.0)}, "net 1"),
        ({"unit 1": part(1.0, 1.0), "unit 2": part(NAN, 1.0), "head": part(1.0)}, "unit 2"),
        ({"unit 1": part(1.0), "unit 2": part(-np.inf)}, "unit 2"),
        ({"unit 1": part(1.0, 1.0), "head": part(1.0)}, None),
    ],
    ids=["statistics tell", "a net without statistics", "weights alone", "no statistics", "fine"],
)
def test_the_part_that_computed_it_first_is_found(parts, expected):
    """A bad loss spoils the weights of all below it, so those are asked last."""
    assert first_not_finite(parts) == expected


def test_metric_step_part_and_checkpoint_are_named(tmp_path):
    store = CheckpointStore(tmp_path)
    guard = NanGuard({"unit 1 ('a')": part(1.0), "unit 2 ('b')": part(NAN)}, store)
    at = Position("training", 12)
    guard.check({"loss": 1.0}, at)
    words = "loss is nan at training step 12; the first part with such numbers is unit 2 ('b'); {}."
    for left, position in (
        ("nothing of it is kept", None),
        ("the last checkpoint (training step 10) is kept", Position("training", 10)),
    ):
        if position:
            store.write(position, {"weights/00000": np.zeros(2)})
        with pytest.raises(UserError) as error:
            guard.check({"accuracy": 0.5, "loss": NAN}, at)
        assert str(error.value) == words.format(left) + " A lower learning rate usually helps."
    again = CheckpointStore(tmp_path)
    again.read()
    assert again.newest == Position("training", 10)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_arrays_that_are_not_finite_are_refused(dtype):
    """But for the history's, which were looked at as metrics, and where a missing one is NaN."""
    guard = NanGuard({"unit 1": part(1.0), "the head": part(NAN)})
    array = np.zeros(3, dtype.as_numpy_dtype)
    arrays = {
        "weights/00007": array,
        "history/step_seconds": np.array([NAN]),
        "seeds/0": np.ones(2),
    }
    guard.check_arrays(arrays, Position("training", 3))
    array[1] = np.inf
    with pytest.raises(UserError, match="weights not finite after training step 3; .* the head; "):
        guard.check_arrays(arrays, Position("training", 3))
