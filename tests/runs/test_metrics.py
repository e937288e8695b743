"""metrics.json is believed only where it makes sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_runs import a_training

from sedona_tf.errors import UserError
from sedona_tf.runs.metrics import FIELDS, load_metrics, save_metrics

ROOT = Path(__file__).parents[2]


def written(path, data) -> Path:
    save_metrics(path, data)
    return path


def test_reads_what_training_writes(trained):
    path = trained[0] / "metrics.json"
    stored = json.loads(path.read_text())
    metrics = load_metrics(path)
    assert metrics.head == stored["test"]["errors"]["head"]
    assert list(metrics.exits) == stored["test"]["errors"]["exits"]
    assert list(metrics.calibrated) == stored["test"]["errors"]["calibrated_ensembles"]
    assert metrics.units[0] == ("unit_1", (8, 8, 4)) and len(metrics.units) == 8
    assert (metrics.data, metrics.limit, metrics.epochs) == ("digits", 600, 3)
    assert (metrics.training_images, metrics.input_shape) == (540, (8, 8, 1))
    assert metrics.images_per_second == stored["images_per_second"]


def test_what_the_benchmarks_keep_makes_sense(tmp_path):
    """Without what they add, and those of before the units; the data are named since later."""
    results = map(Path.read_text, sorted(ROOT.glob("benchmarks/results/*/*_seed*.json")))
    kept = [result for result in map(json.loads, results) if "units" in result]
    assert kept
    for result in kept:
        result = {"data": a_training(2)["data"]} | result
        content = {name: result[name] for name in FIELDS}
        metrics = load_metrics(written(tmp_path / "metrics.json", content))
        assert [[name, list(shape)] for name, shape in metrics.units] == result["units"]
        assert metrics.num_blocks == metrics.decoupling.num_blocks


def test_refuses_what_has_no_checksum(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(a_training(2)))
    with pytest.raises(UserError, match="is not a metrics file: its format is not"):
        load_metrics(path)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("test",), 3, "test must be an object"),
        (("test", "errors", "exits"), [0.1], "exits must be a list of 3"),
        (("test", "errors", "head"), 1.5, "head must hold numbers from 0 to 1"),
        (("test", "errors", "head"), True, "head must hold numbers"),
        (("test", "errors", "ensembles"), ["0", 0, 0], "ensembles must hold numbers"),
        (("test", "cut_after"), [3, 2, 1], "cut_after must rise"),
        (("test", "temperatures"), [1.0], "temperatures must be a list of 4"),
        (("num_blocks",), 3, "num_blocks must be 4"),
        (("units",), [["a", [1]]], "units must be 8"),
        (("units",), [["a", "b"]], "units must"),
        (("data",), "digits", "data must be an object"),
        (("data", "name"), 3, "data.name must be text"),
        (("data", "input_shape"), [8, "8", 1], "data.input_shape must be a whole number"),
        (("epochs",), 1.5, "epochs must be a whole number"),
        (("machine",), "a\nb", "machine must be text of one line"),
        (("devices",), [7], "devices must be text"),
        (("devices",), 7, "not iterable"),
        (("images_per_second",), -1, "images_per_second must hold numbers from 0"),
        (("images_per_second",), 10**400, "images_per_second must hold numbers from 0"),
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
        with pytest.raises(UserError, match=f"lacks field '{name}'"):
            load_metrics(written(tmp_path / "metrics.json", data))
