"""A run and its data: replaced or missing files, and a test split that does not fit."""

from __future__ import annotations

import json
import runpy
import shutil
import struct
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest

from sedona_tf.data import DataRecord, bilevel_split, load
from sedona_tf.errors import UserError
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.search.run import run_search
from sedona_tf.train.run import run_training
from sedona_tf.train.trained_run import load_run
from sedona_tf.tune.run import run_tuning

ROOT = Path(__file__).parents[2]
METHOD = {"method": "dgl", "num_blocks": 2, "devices": "CPU:0"}
NOT_THE_RUNS = "split is not the one that the run was started with"


def recipe(folder: Path, **changes):
    """Five steps an epoch, on images of a folder; changes with `__` for the dot."""
    config = runpy.run_path(str(ROOT / "recipes/digits.py"))["get_config"]("smoke")
    config.deterministic = False  # could not be switched off for the tests that follow
    config.data.source, config.data.data_dir = "idx", str(folder)
    config.train.epochs, config.train.batch_size = 1, 16
    config.train.validation_fraction = 0.2
    for name, value in changes.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return config


def write(folder: Path, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    for part, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels.astype(np.uint8))):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"{split}-{part}-ubyte").write_bytes(header + array.tobytes())


def digits(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    source = load("digits", split, limit=count)
    return source.images, source.labels


@pytest.fixture
def folder(tmp_path) -> Path:
    """100 images of digits to train on, 50 for the test."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", *digits("train", 100))
    write(folder, "t10k", *digits("test", 50))
    return folder


def test_a_run_and_the_files_it_was_trained_on(folder, tmp_path):
    workdir, again = tmp_path / "run", METHOD | {"resume": True}
    evaluation = run_training(recipe(folder), workdir, **METHOD)
    longer = recipe(folder, train__epochs=2)
    images, labels = digits("train", 100)
    part = images[bilevel_split(labels, 0.2, 0)[0]] / 255
    statistics = json.loads((workdir / "data.json").read_text())["normalization"]
    assert statistics["mean"] == pytest.approx([part.mean()], rel=1e-12)
    assert statistics["std"] == pytest.approx([part.std()], rel=1e-12)

    run = load_run(workdir)
    metrics = json.loads((workdir / "metrics.json").read_text())
    at_the_end = run.model.evaluate(run.data.validation(), verbose=0, return_dict=True)
    assert metrics["validation_error"] == pytest.approx(1 - at_the_end["accuracy"], abs=1e-6)
    fitted = Ensemble(run.model).calibrate(run.data.validation())
    assert run.temperatures == pytest.approx(fitted.temperatures, rel=1e-6)

    replaced = {
        "half the contrast": (images // 2, labels),
        "another order": (images[::-1], labels[::-1]),
        "other labels": (images, (labels + 1) % 10),
    }
    for changed in replaced.values():
        write(folder, "train", *changed)
        with pytest.raises(UserError, match=f"training {NOT_THE_RUNS}"):
            load_run(workdir).data.validation()
    with pytest.raises(UserError, match=f"training {NOT_THE_RUNS}"):
        run_training(longer, workdir, **again)
    run = load_run(workdir)
    found = run.ensemble().evaluate(run.data.test())
    assert (found.head, found.exits) == (evaluation.head, evaluation.exits)
    for path in folder.glob("train-*"):
        path.unlink()
    run = load_run(workdir)
    assert run.ensemble().evaluate(run.data.test()).to_dict() == evaluation.to_dict()

    write(folder, "train", images, labels)
    write(folder, "t10k", *digits("test", 40))
    with pytest.raises(UserError, match=f"test {NOT_THE_RUNS}"):
        load_run(workdir).data.test()
    with pytest.raises(UserError, match=f"test {NOT_THE_RUNS}"):
        run_training(longer, workdir, **again)
    assert json.loads((workdir / "recipe.json").read_text())["recipe"]["train"]["epochs"] == 1

    write(folder, "t10k", *digits("test", 50))
    run_training(longer, workdir, **again)
    (workdir / "data.json").unlink()
    with pytest.raises(UserError, match="no data.json"):
        load_run(workdir)
    longer.train.epochs = 3
    with pytest.raises(UserError, match="no data.json"):
        run_training(longer, workdir, **again)


def no_files(folder: Path) -> None:
    for path in folder.glob("t10k-*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_files, "no file .*t10k-images"),
        (lambda folder: write(folder, "t10k", *digits("train", 30)[:1], np.full(30, 10)), "10"),
        (lambda folder: write(folder, "t10k", np.zeros((9, 8, 9, 1), np.uint8), np.zeros(9)), "9"),
    ],
)
def test_trouble_with_the_test_split_is_seen_before_the_first_step(spoil, words, folder, tmp_path):
    spoil(folder)
    with pytest.raises(UserError, match=words) as error:
        run_training(recipe(folder), tmp_path / "run", **METHOD)
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix]


def test_what_was_measured_is_written_though_a_later_part_fails(folder, tmp_path, monkeypatch):
    def fail(*arguments, **named):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Ensemble, "evaluate", fail)
        with pytest.raises(MemoryError):
            run_training(recipe(folder), tmp_path / "run", **METHOD)
    history = json.loads((tmp_path / "run/history.json").read_text())
    assert len(history["columns"]["val_error"]) == 1
    assert (tmp_path / "run/curves.png").exists()
    run = load_run(tmp_path / "run")
    assert run.temperatures is None  # it has not ended
    evaluation = run_training(recipe(folder), tmp_path / "run", **METHOD, resume=True)
    assert run.ensemble().evaluate(run.data.test()).head == evaluation.head


def spoil_record(workdir: Path) -> None:
    """As if the run had been started with other images."""
    msgspec.structs.replace(DataRecord.read(workdir), training="0" * 64).write(workdir)


def test_a_search_and_a_tuning_know_their_data_again(finished, folder, tmp_path):
    workdir = tmp_path / "search"
    shutil.copytree(finished[0], workdir)
    kept = json.loads((workdir / "recipe.json").read_text())["recipe"]
    config = recipe(folder)
    with config.unlocked():
        config.update(kept)
    config.deterministic = False
    plan = json.loads((workdir / "plan.json").read_text())
    assert plan["provenance"]["dataset"] == {
        "name": "digits",
        "images": 1438,
        "sha256": load("digits", "train").digest,
    }
    spoil_record(workdir)
    with pytest.raises(UserError, match=f"training {NOT_THE_RUNS}"):
        run_search(config, workdir, resume=True)

    settings = {"num_blocks": 2, "max_trials": 1}
    workdir = tmp_path / "tuning"
    run_tuning(recipe(folder), workdir, **settings)
    images, labels = digits("train", 100)
    write(folder, "train", images // 2, labels)
    with pytest.raises(UserError, match=f"training {NOT_THE_RUNS}"):
        run_tuning(recipe(folder), workdir, **settings, resume=True)
    keras.backend.clear_session()
