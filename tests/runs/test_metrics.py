"""metrics.json is believed only where it makes sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_runs import a_training

from sedona_tf.errors import UserError
from sedona_tf.runs.metrics import Metrics, load_metrics, save_metrics

ROOT = Path(__file__).parents[2]


def written(path, data) -> Path:
    path.write_text(json.dumps({"format": "sedona_tf.metrics", "version": 1, **data}))
    return path


def test_reads_what_training_writes(trained):
    path = trained[0] / "metrics.json"
    stored = json.loads(path.read_text())
    metrics = load_metrics(path)
    errors, found = metrics.test.errors, stored["test"]["errors"]
    assert errors.head == found["head"]
    assert list(errors.exits) == found["exits"]
    assert list(errors.calibrated_ensembles) == found["calibrated_ensembles"]
    assert metrics.units[0] == ("unit_1", (8, 8, 4)) and len(metrics.units) == 8
    assert (metrics.data.name, metrics.data.limit, metrics.epochs) == ("digits", 600, 3)
    assert (metrics.data.training_images, metrics.data.input_shape) == (540, (8, 8, 1))
    assert metrics.images_per_second == stored["images_per_second"]


def test_what_the_benchmarks_keep_makes_sense(tmp_path):
    """Without what they add, and those of before the units; the data are named since later."""
    results = map(Path.read_text, sorted(ROOT.glob("benchmarks/results/*/*_seed*.json")))
    kept = [result for result in map(json.loads, results) if "units" in result]
    assert kept
    for result in kept:
        result = {"data": a_training(2)["data"]} | result
        content = {name: result[name] for name in Metrics.__struct_fields__}
        save_metrics(tmp_path / "metrics.json", content)
        metrics = load_metrics(tmp_path / "metrics.json")
        assert [[name, list(shape)] for name, shape in metrics.units] == result["units"]
        assert metrics.num_blocks == metrics.decoupling.num_blocks


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("test",), 3, "test"),
        (("test", "errors", "exits"), [0.1], "exits must be a list of 3"),
        (("test", "errors", "head"), 1.5, "head"),
        (("test", "errors", "head"), True, "head"),
        (("test", "errors", "ensembles"), ["0", 0, 0], "ensembles"),
        (("test", "cut_after"), [3, 2, 1], "cut_after must rise"),
        (("test", "temperatures"), [1.0], "temperatures must be a list of 4"),
        (("num_blocks",), 3, "num_blocks must be 4"),
        (("units",), [["a", [1]]], "units must be 8"),
        (("units",), [["a", "b"]], "units"),
        (("data",), "digits", "data"),
        (("data", "name"), 3, "data.name"),
        (("data", "input_shape"), [8, "8", 1], "data.input_shape"),
        (("epochs",), 1.5, "epochs"),
        (("machine",), "a\nb", "machine"),
        (("devices",), [7], "devices"),
        (("devices",), 7, "devices"),
        (("images_per_second",), -1, "images_per_second"),
        (("images_per_second",), 10**400, "out of range"),
    ],
)
def test_refuses_in_one_line(tmp_path, place, value, words):
    data = a_training(4)
    inner = data
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path = written(tmp_path / "metrics.json", data)
    with pytest.raises(UserError, match=words) as error:
        load_metrics(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_names_what_is_missing(tmp_path):
    for name in ("method", "test", "units", "date"):
        data = a_training(2)
        del data[name]
        with pytest.raises(UserError, match=name):
            load_metrics(written(tmp_path / "metrics.json", data))
