"""Columns that do not fit together are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from sedona_tf.report.history_columns import search_columns, training_columns

SEARCH = {
    "steps": [1, 2, 3],
    "cut_probability": np.zeros((3, 7)),
    "candidate_weights": np.zeros((3, 7, 4)),
    "outer_loss": [1.0, np.nan, 2.0],
}
TRAINING = {
    **{"step": [1, 2, 3], "epoch": [1, 2, 3], "loss": [3, 2, 1], "accuracy": [0.0, 0.5, 1.0]},
    **{f"block_{block}_loss": [block] * 3 for block in (10, 2, 1)},
    **{"val_step": [2, 3], "val_epoch": [2, 3], "val_error": [0.5, 0.25]},
    "another": None,
}


def test_columns_by_name_and_blocks_in_order():
    found = search_columns(SEARCH)
    for name, values in SEARCH.items():
        np.testing.assert_array_equal(getattr(found, name), values)
    columns = training_columns(TRAINING)
    assert [loss[0] for loss in columns.losses] == [1, 2, 10, 3]
    for name in ("epoch", "accuracy", "val_epoch", "val_error"):
        np.testing.assert_array_equal(getattr(columns, name), TRAINING[name])
    assert columns.learning_rate is None and columns.val_loss is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", [0, 0, 1]),
        ("steps", []),
        ("steps", None),
        ("cut_probability", np.zeros((3, 0))),
        ("cut_probability", np.zeros((2, 7))),
        ("cut_probability", None),
        ("candidate_weights", np.zeros((3, 6, 4))),
        ("candidate_weights", np.zeros((3, 7, 0))),
        ("outer_loss", np.zeros(2)),
    ],
)
def test_a_search_that_does_not_fit(name, value):
    history = {
        key: values for key, values in (SEARCH | {name: value}).items() if values is not None
    }
    with pytest.raises(ValueError, match=f"'{name}'"):
        search_columns(history)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", [1] * 3),
        ("step", []),
        ("epoch", [1.0] * 2),
        ("loss", [1.0] * 2),
        ("loss", None),
        ("block_1_loss", [1.0]),
        ("accuracy", []),
        ("val_step", [3, 2]),
        ("val_step", None),
        ("val_error", [0.1] * 4),
        ("val_error", None),
    ],
)
def test_a_training_that_does_not_fit(name, value):
    history = TRAINING | {name: value}
    if value is None:
        del history[name]
    with pytest.raises(ValueError, match=f"'{name}'"):
        training_columns(history)
