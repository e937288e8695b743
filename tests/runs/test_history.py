"""history.json: what went in comes back, and nothing else passes for one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sedona_tf.errors import UserError
from sedona_tf.runs.history import load_history, save_history


def test_round_trip_to_the_bit_with_gaps(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "steps": [1, 2, 3],
        "p": list(rng.random((3, 4)).astype("float32")),
        "loss": [0.1, math.nan, math.inf],
    }
    save_history(tmp_path / "history.json", "search", columns)
    history = load_history(tmp_path / "history.json")
    assert history.run == "search" and len(history.date) == 10
    for name in ("steps", "p"):
        np.testing.assert_array_equal(history.columns[name], np.asarray(columns[name]))
    np.testing.assert_array_equal(history.columns["loss"], [0.1, math.nan, math.nan])
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]


GOOD = {
    "format": "sedona_tf.history",
    "version": 1,
    "run": "training",
    "date": "2026-11-24",
    "columns": {"loss": [1.0]},
}


def test_a_file_under_an_earlier_versions_checksum_loads(tmp_path):
    path = tmp_path / "history.json"
    path.write_text(json.dumps(GOOD | {"checksum": "0"}))
    history = load_history(path)
    assert (history.run, history.date, history.columns["loss"]) == ("training", "2026-11-24", [1.0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": "dream"}, "run"),
        ({"date": "yesterday"}, "date"),
        ({"date": 3}, "date"),
        ({"columns": [1]}, "columns"),
        ({"columns": {"loss": [[1], [1, 2]]}}, "does not hold numbers"),
        ({"columns": {"loss": [{}]}}, "does not hold numbers"),
        ({"more": 1}, "more"),
        ({"version": 2}, "version"),
    ],
)
def test_refuses_in_one_line(tmp_path, change, words):
    path = tmp_path / "history.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(UserError, match=words) as error:
        load_history(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_refuses_what_is_cut_off(tmp_path):
    path = tmp_path / "history.json"
    save_history(path, "training", {"loss": [1.0, 2.0]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged"):
        load_history(path)
