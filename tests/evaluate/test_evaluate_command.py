"""The evaluate command: flags, what is printed, what is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from search_runs import help_of

from sedona_tf import backbones, decouple, plans, recipe
from sedona_tf.errors import UserError
from sedona_tf.evaluate import __main__ as evaluate
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.runs.kept_recipe import write_recipe
from sedona_tf.train import trained_run


class Data:
    """Two splits of noise, and a count of how often each was read."""

    steps_per_epoch = 10

    def __init__(self) -> None:
        self.reads: list[str] = []

    def _batches(self, split: str, count: int) -> tf.data.Dataset:
        self.reads.append(split)
        rng = np.random.default_rng(count)
        images = rng.standard_normal((count, 8, 8, 1)).astype("float32")
        return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, count))).batch(16)

    def validation(self) -> tf.data.Dataset:
        return self._batches("validation", 40)

    def test(self) -> tf.data.Dataset:
        return self._batches("test", 50)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
    return decouple(backbone, plans.uniform(backbone, 2, {"kind": "separable", "depth": 1}))


@pytest.fixture
def command(model, monkeypatch, capsys):
    """Runs the command on a made-up run; gives what it printed and the run's data."""

    def call(workdir, split="test", as_json=False, gone=False):
        data = Data()
        write_recipe(workdir, recipe.paper(), "train")
        loaded = []

        def load_run(path):
            loaded.append(path)
            print("loading data")  # to stderr, away from the JSON
            config = recipe.paper()
            config.train.epochs = 4
            if gone:
                shutil.rmtree(path)
            steps = config.train.epochs * data.steps_per_epoch
            return trained_run.TrainedRun(config, model, data, {}, 30, steps)

        monkeypatch.setattr(trained_run, "load_run", load_run)
        given = types.SimpleNamespace(workdir=str(workdir), split=split, json=as_json, quiet=False)
        monkeypatch.setattr(flags, "FLAGS", given)
        evaluate.main()
        assert loaded == [workdir]
        return capsys.readouterr().out, data

    return call


def expected(model, split: str) -> dict:
    data = Data()
    ensemble = Ensemble(model).calibrate(data.validation())
    evaluation = ensemble.evaluate(data.test() if split == "test" else data.validation())
    return json.loads(json.dumps({"split": split, "step": 30, "steps": 40, **evaluation.to_dict()}))


def test_table_and_file(command, model, tmp_path):
    printed, data = command(tmp_path)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content == expected(model, "test") and content["num_images"] == 50
    assert data.reads.count("test") == 1
    for words in (
        "resnet18: 8 units, 2 blocks; 50 test images; not whole: step 30 of 40\n",
        f"{100 * content['errors']['exits'][0]:.2f}",
        f"{100 * content['errors']['head']:.2f}",
        f"wrote {tmp_path / 'evaluation.json'}",
    ):
        assert words in printed
    assert "fitted on these" not in printed


def test_validation_leaves_the_test_split_alone_and_says_what_was_fitted(command, model, tmp_path):
    printed, data = command(tmp_path, "validation")
    assert set(data.reads) == {"validation"}
    assert "40 validation images" in printed and "fitted on these images" in printed
    assert json.loads((tmp_path / "evaluation.json").read_text()) == expected(model, "validation")


def test_json_is_what_is_written(command, tmp_path):
    printed, _ = command(tmp_path, as_json=True)
    assert printed == (tmp_path / "evaluation.json").read_text()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_folder_that_is_gone_costs_the_file_alone(as_json, command, model, tmp_path, capsys):
    with pytest.raises(UserError, match="evaluation.json"):
        command(tmp_path, as_json=as_json, gone=True)
    printed = capsys.readouterr().out
    if as_json:
        assert json.loads(printed) == expected(model, "test")
    else:
        assert "50 test images" in printed and "wrote" not in printed


def call(arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "sedona_tf.evaluate", *arguments],
        capture_output=True,
        text=True,
    )


def test_help_is_quick_and_loads_no_tensorflow():
    start = time.perf_counter()
    text, imported = help_of("evaluate")
    assert time.perf_counter() - start < 5  # 0.2 s when idle; TensorFlow alone takes longer
    assert "sedona_tf.command_line" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "scipy", "matplotlib"}
    for words in ("Examples:", "--workdir", "(required)", "--split", "--[no]json"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--workdir is required"),
        (["--workdir=x", "--split=tset"], "value should be one of <test|validation>"),
        (["--workdri=x"], "Did you mean --workdir?"),
    ],
)
def test_errors_are_one_line(arguments, words):
    done = call(arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
