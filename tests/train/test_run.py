"""Training runs in this process: reloading, resuming, and what is refused."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from train_runs import last_state, recorded

from sedona_tf.data import load
from sedona_tf.errors import Interrupted, UserError
from sedona_tf.plans import Decoupling
from sedona_tf.runs.kept_recipe import PURPOSES, read_recipe, require_same_recipe
from sedona_tf.runs.run import open_run
from sedona_tf.train import run as run_module
from sedona_tf.train.run import run_training
from sedona_tf.train.trained_run import TrainedRun, load_run

ROOT = Path(__file__).parents[2]
NET = {"kind": "separable", "depth": 1}


def recipe(**changes):
    """Five steps an epoch, two epochs; changes with `__` for the dot."""
    config = runpy.run_path(str(ROOT / "recipes/digits.py"))["get_config"]("smoke")
    config.deterministic = False  # could not be switched off for the tests that follow
    config.data.limit = 180
    config.train.epochs = 2
    config.train.batch_size = 32
    for name, value in changes.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return config


class Keep(keras.callbacks.Callback):
    """Shows the model to the test; stops the run by a signal in a step, counted from 0."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.stop = stop

    def on_train_batch_begin(self, batch, logs=None) -> None:
        if batch == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("plan") / "decoupling.json"
    Decoupling("resnet18", 8, (3,), (NET,)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of DGL in two blocks, pipelined."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    run_training(recipe(), workdir, method="dgl", num_blocks=2, devices="CPU:0")
    return workdir


def predictions(run: TrainedRun | keras.Model) -> np.ndarray:
    model = run.model if isinstance(run, TrainedRun) else run
    images = load("digits", "test", limit=50).images.astype("float32") / 255
    return model.predict_on_batch(images)


def test_the_records_of_a_finished_run(finished):
    """TensorBoard has the history; the last numbers are of the drained model, as it was saved."""
    metrics = json.loads((finished / "metrics.json").read_text())
    run = load_run(finished)
    found, rate = recorded(finished / "logs/training"), run.recipe.train.learning_rate
    for name in ("loss", "block_1_loss", "accuracy", "val_loss", "val_error"):
        expected = list(zip([5, 10], run.history[name], strict=True))
        np.testing.assert_allclose(found[f"epoch_{name}"], expected, rtol=1e-6, err_msg=name)
    least = run.recipe.train.final_learning_rate
    rates = [
        (step, least + (rate - least) * (1 + np.cos(np.pi * (step - 1) / 10)) / 2)
        for step in (5, 10)
    ]
    np.testing.assert_allclose(found["epoch_learning_rate"], rates, rtol=1e-5)
    assert [step for step, _ in found["batch_loss"]] == [10]  # fewer steps than from one to another
    again = run.model.evaluate(run.data.validation(), verbose=0, return_dict=True)
    assert run.history["val_loss"][-1] == pytest.approx(again["loss"], rel=1e-5)
    assert metrics["validation_error"] == pytest.approx(1 - again["accuracy"], abs=1e-6)


def test_pictures_and_logs_that_fail_end_nothing(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(run_module, "training_curves", fail)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    (tmp_path / "logs").write_text("")
    run_training(recipe(train__epochs=1), tmp_path, method="backprop")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["validation_error"] > 0 and (tmp_path / "history.json").exists()
    assert metrics["machine"].endswith(", 1 cores")
    messages = [record.message for record in caplog.records if record.name == "absl"]
    assert len(messages) == 2 and "no fonts" in messages[1]


def test_joined_units_of_a_network_of_keras_are_rebuilt(tmp_path):
    keep = Keep()
    config = recipe(
        backbone__name="keras:MobileNet",
        backbone__width=16,
        backbone__max_units=2,
        data__image_size=32,
        train__epochs=1,
    )
    run_training(config, tmp_path, method="backprop", extra_callbacks=[keep])
    run = load_run(tmp_path)
    assert len(run.model.backbone.units) == 2
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype("float32")
    np.testing.assert_array_equal(
        run.model.predict_on_batch(images), keep.model.predict_on_batch(images)
    )
    config.backbone.max_units = 3
    with pytest.raises(UserError, match="max_units 2, not 3"):
        require_same_recipe(tmp_path, read_recipe(tmp_path, "train"), config, "train")


@pytest.mark.parametrize("method", ["backprop", "predsim", "sedona"])
def test_load_run_rebuilds_the_trained_model(method, plan, tmp_path):
    """The same kernels in the same process: no tolerance for logits."""
    keep, given = Keep(), {"plan": plan} if method == "sedona" else {}
    evaluation = run_training(
        recipe(), tmp_path, method=method, num_blocks=2, extra_callbacks=[keep], **given
    )
    run = load_run(tmp_path)
    assert run.model is not keep.model
    assert len(run.model.blocks) == (1 if method == "backprop" else 2)
    np.testing.assert_array_equal(predictions(run), predictions(keep.model))
    assert run.model.loss.smoothing == (0.0 if method == "predsim" else 0.1)
    again = run.model.evaluate(run.data.test(), verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(1 - evaluation.head, abs=1e-6)


def test_load_run_in_half_precision(tmp_path):
    """A pipeline's buffers are bfloat16 then, which NumPy's files have no name for."""
    keep, config = Keep(), recipe(train__precision="mixed_bfloat16", train__epochs=1)
    run_training(config, tmp_path, method="dgl", num_blocks=2, extra_callbacks=[keep])
    run = load_run(tmp_path)
    assert keras.config.dtype_policy().name == "float32"
    (buffer,), (expected,) = run.model.buffers, keep.model.buffers
    assert "bfloat16" in {variable.dtype.name for variable in buffer.variables}
    for one, other in zip(buffer.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    np.testing.assert_array_equal(predictions(run), predictions(keep.model))


def test_stopped_in_the_very_last_step_the_pipeline_still_drains(finished, tmp_path):
    """The buffer held a batch then; weights would be off by whole updates, not by 1e-5.

    Stopped in the very first step before, which leaves nothing to go on from.
    """
    config = recipe()
    again = {"method": "dgl", "num_blocks": 2, "devices": "CPU:0"}
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        run_training(config, tmp_path, **again, extra_callbacks=[Keep(stop=0)])
    assert not list(tmp_path.glob("checkpoints/*"))
    again["resume"] = True
    with pytest.raises(Interrupted, match="saved at training step 10;"):
        run_training(config, tmp_path, **again, extra_callbacks=[Keep(stop=9)])
    run_training(config, tmp_path, **again)
    (state, history), (expected, expected_history) = map(last_state, (tmp_path, finished))
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, values in expected_history.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, err_msg=name)
    iterations = [int(each.iterations) for each in load_run(tmp_path).model.optimizer.of_blocks]
    assert iterations == [10, 10]


def test_divergence_names_metric_unit_and_step_and_keeps_a_good_checkpoint(tmp_path):
    """Step 3 has a finite loss and spoils the weights, which step 4 finds; saved was step 2."""
    config = recipe(train__learning_rate=1e6, train__checkpoint_every=2)
    words = (
        r"loss is (nan|inf) at training step (\d); the first part with such numbers is unit \d "
        r"\('unit_\d'\); the last checkpoint \(training step (\d)\) is kept"
    )
    with pytest.raises(UserError) as error:
        run_training(config, tmp_path, method="dgl", num_blocks=2)
    found = re.search(words, str(error.value))
    assert found and int(found[3]) < int(found[2]), error.value
    state, _ = last_state(tmp_path)
    assert all(np.isfinite(value).all() for value in state.values())
    assert sorted(tmp_path.glob("checkpoints/*"))[-1].stem == f"training-{int(found[3]):08d}"


def test_a_folder_deleted_in_mid_run_ends_it(tmp_path):
    workdir = tmp_path / "run"

    def delete(batch, logs=None):
        if batch == 2:
            shutil.rmtree(workdir)

    with pytest.raises(UserError, match="was deleted or replaced"):
        run_training(
            recipe(train__checkpoint_every=1),
            workdir,
            method="backprop",
            extra_callbacks=[keras.callbacks.LambdaCallback(on_train_batch_begin=delete)],
        )
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "sedna"}, "Did you mean 'sedona'"),
        ({"method": "sedona"}, "needs a plan"),
        ({"method": "sedona", "plan": "nowhere.json"}, "nowhere.json"),
        (
            {"method": "sedona", "plan": str(ROOT / "saved_plans/fashion_mnist_vgg11.json")},
            "another architecture",
        ),
        ({"method": "sedona", "plan": "plan", "num_blocks": 5}, "5"),
        ({"method": "backprop", "plan": "plan"}, "takes no plan"),
        ({"num_blocks": 9}, "between 1 and 8"),
        ({"devices": "GPU:7"}, "'GPU:7' does not exist"),
        ({"train__schedule": "lock_step"}, "Did you mean 'lockstep'"),
        ({"train__epochs": 0}, "train.epochs must be at least 1"),
        ({"train__batch_size": 1_000}, "batch_size 1000"),
    ],
)
def test_refuses(given, message, plan, tmp_path):
    changes = {name: value for name, value in given.items() if "__" in name}
    arguments = {"method": "dgl", "num_blocks": 2} | given
    arguments = {name: value for name, value in arguments.items() if "__" not in name}
    if arguments.get("plan") == "plan":
        arguments["plan"] = plan
    with pytest.raises(UserError, match=message) as error:
        run_training(recipe(**changes), tmp_path / "run", **arguments)
    assert "\n" not in str(error.value)
    left = {path.name for path in (tmp_path / "run").glob("*")}
    assert left <= {".lock", "checkpoints"} and not list((tmp_path / "run/checkpoints").glob("*"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_blocks": 3}, "a run of dgl with 2 blocks cut after 4, not dgl with 3 blocks cut"),
        ({"method": "predsim"}, "not predsim with 2 blocks"),
        ({"method": "backprop"}, "not backprop with 1 block;"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"train__batch_size": 16}, "train.batch_size 32, not 16"),
        ({"train__validation_fraction": 0.2}, "train.validation_fraction 0.1, not 0.2"),
        ({"data__limit": 190}, "data.limit 180, not 190"),
        ({"backbone__width": 8}, "backbone.width 4, not 8"),
        ({"train__epochs": 1}, "at training step 10, past the recipe's 5"),
    ],
)
def test_refuses_to_resume_under_other_terms(given, message, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    arguments = {"method": "dgl", "num_blocks": 2} | given
    changes = {n: arguments.pop(n) for n in given if n not in ("method", "num_blocks")}
    before = {path: path.read_bytes() for path in workdir.rglob("*.json")}
    with pytest.raises(UserError, match=message) as error:
        run_training(recipe(**changes), workdir, resume=True, **arguments)
    assert "\n" not in str(error.value)
    assert before == {path: path.read_bytes() for path in workdir.rglob("*.json")}


@pytest.mark.parametrize("content", ["{", "[]", '{"train": 3}', '{"train": {"epochs": "x"}}', "é"])
@pytest.mark.parametrize("name", ["recipe.json", "decoupling.json"])
def test_refuses_damaged_files(name, content, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (workdir / name).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=name):
        load_run(workdir)
    with pytest.raises(UserError, match=name):
        run_training(recipe(), workdir, method="dgl", num_blocks=2, resume=True)
    assert (workdir / name).read_text(encoding="latin-1") == content


@pytest.mark.parametrize(
    ("purpose", "names"),
    [
        ("search", {"plan.json", "history.json", "report.png"}),
        ("train", {"decoupling.json", "metrics.json", "history.json", "curves.png"}),
        ("tune", {"decoupling.json", "tuner"}),
    ],
)
def test_a_new_run_writes_over_nothing(purpose, names, tmp_path):
    """Not even over a link to nothing; what it does not write may lie there."""
    assert set(PURPOSES[purpose].results) == names
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to("nowhere")
        new = (purpose, folder, recipe(), False)
        with pytest.raises(UserError, match=f"holds a {name}"), open_run(*new):
            pass
        assert {path.name for path in folder.iterdir()} == {name, ".lock"}
        (folder / name).rename(folder / f"my_{name}")
        with open_run(*new) as run:
            assert run.kept is None


def test_refuses_damaged_or_missing_checkpoints(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    files = list((workdir / "checkpoints").iterdir())
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    again = {"method": "dgl", "num_blocks": 2, "resume": True}
    for attempt in (lambda: load_run(workdir), lambda: run_training(recipe(), workdir, **again)):
        with pytest.raises(UserError, match="is damaged"):
            attempt()
    for path in files:
        path.unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        load_run(workdir)
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="does not hold a run"):
            load_run(folder)
        with pytest.raises(UserError, match="does not hold a run"):
            run_training(recipe(), folder, **again)


def test_more_epochs_may_come_with_resume_and_copies_of_the_user_stay(finished, tmp_path):
    """With a lower learning rate too. A copy whose name came last was once taken for the newest."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (newest,) = (workdir / "checkpoints").iterdir()
    content = newest.read_bytes()
    copies = ("training-old.npz", f"._{newest.name}", f"{newest.stem} (1).npz")
    for name in copies:
        shutil.copy(newest, newest.with_name(name))
    longer = recipe(train__epochs=3, train__learning_rate=0.05)
    again = {"method": "dgl", "num_blocks": 2, "resume": True}
    with pytest.raises(UserError, match="train.learning_rate"):
        run_training(recipe(train__learning_rate=0.05), workdir, **again)
    with pytest.raises(Interrupted):
        run_training(longer, workdir, **again, extra_callbacks=[Keep(stop=2)])
    stopped = load_run(workdir)  # a metrics.json of the shorter run is there
    assert (stopped.step, stopped.steps) == (13, 15)
    run_training(longer, workdir, **again)
    whole = load_run(workdir)
    assert whole.history["epoch"] == [1, 2, 3] and whole.step == whole.steps == 15
    held = json.loads((workdir / "recipe.json").read_text())["held"]
    rates = [(each["step"], each["settings"]["train.learning_rate"]) for each in held]
    assert rates == [(0, 0.1), (10, 0.05)]
    for name in copies:
        assert newest.with_name(name).read_bytes() == content
