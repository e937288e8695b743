"""Training as a person runs it: outputs, errors, kills, resumption, evaluation afterwards."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time

import numpy as np
import pytest
from search_runs import DIGITS, Running, command, refused

from sedona_tf.arrays import read_arrays

TRAIN = [
    f"--recipe={DIGITS}",
    "--recipe.train.epochs=3",
    "--recipe.train.batch_size=32",
    "--recipe.train.checkpoint_every=7",
    "--recipe.data.limit=600",
]
METHOD = ["--method=dgl", "--blocks=2"]


def last_state(workdir):
    """The newest checkpoint's arrays; of the history, all that is not a time."""
    arrays = read_arrays(sorted((workdir / "checkpoints").glob("*.npz"))[-1])
    history = json.loads(arrays.pop("history").tobytes())
    history.pop("step_seconds")
    return arrays, history


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two blocks from start to end."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    result = command("train", *TRAIN, *METHOD, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir, result.stdout


def test_writes_what_it_promises(trained):
    workdir, output = trained
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["method"] == "dgl" and metrics["num_blocks"] == 2
    assert metrics["test"]["num_images"] == 359
    errors = metrics["test"]["errors"]
    assert 0 < errors["head"] < 0.9 and len(errors["exits"]) == len(errors["ensembles"]) == 1
    assert metrics["images_per_second"] > 0
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((workdir / "decoupling.json").read_text())["cut_after"] == [4]
    assert list((workdir / "logs").rglob("events.out.tfevents.*"))
    _, history = last_state(workdir)
    assert history["epoch"] == [1, 2, 3] and history["loss"][2] < history["loss"][0]
    assert "block_1_loss" in history and "metrics.json" in output


def test_evaluate_finds_the_same_errors_in_a_new_process(trained):
    workdir, _ = trained
    result = command("evaluate", f"--workdir={workdir}", "--json")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((workdir / "metrics.json").read_text())
    evaluation = json.loads(result.stdout)
    assert evaluation["errors"] == metrics["test"]["errors"]
    expected = metrics["test"]["temperatures"]
    np.testing.assert_allclose(evaluation["temperatures"], expected, rtol=1e-4)


def test_killed_and_stopped_ends_as_the_uninterrupted_run(trained, tmp_path):
    """SIGKILL twice and SIGTERM once, each followed by --resume; buffers are part of the state."""
    workdir, rng = tmp_path / "run", random.Random(0)
    arguments = [*TRAIN, *METHOD]
    for number, extra in ((signal.SIGKILL, []), (signal.SIGKILL, ["--resume"])):
        start = time.time()
        with Running(workdir, *arguments, *extra, command="train") as run:
            run.wait_for("checkpoints/*", newer_than=start)
            time.sleep(rng.uniform(0, 0.2))
            assert run.end(number)[0] == -number
    start = time.time()
    with Running(workdir, *arguments, "--resume", command="train") as run:
        run.wait_for("logs/train/*", newer_than=start)
        code, line = run.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, line
    assert line.startswith("stopped: checkpoint saved at training step")
    resumed = command("train", *arguments, f"--workdir={workdir}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    (state, history), (expected, expected_history) = map(last_state, (workdir, trained[0]))
    assert history == expected_history
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=sedna"], "sedona"),
        (["--method=sedona"], "needs a plan"),
        (["--method=sedona", "--plan=nowhere.json"], "nowhere.json"),
        (
            ["--method=sedona", "--plan=saved_plans/fashion_mnist_vgg11.json"],
            "another architecture",
        ),
        (["--method=backprop", "--plan=saved_plans/fashion_mnist_vgg11.json"], "takes no plan"),
        (["--method=dgl", "--blocks=9"], "between 1 and 8"),
        (["--method=dgl", "--devices=GPU:7"], "GPU:7"),
        (["--method=dgl", "--cluster=127.0.0.1:1"], "127.0.0.1:1"),
        (["--method=dgl", "--recipe.train.schedule=lock_step"], "lockstep"),
        (["--method=dgl", "--recipe.train.epochs=0"], "train.epochs"),
    ],
)
def test_refuses(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    refused(command("train", *TRAIN, *arguments, f"--workdir={workdir}"), message)
    assert not (workdir / "recipe.json").exists()


def test_refuses_folders(trained, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    at = f"--workdir={workdir}"
    refused(command("train", *TRAIN, *METHOD, at), "--resume or another")
    refused(command("train", *TRAIN, "--method=dgl", "--blocks=3", at, "--resume"), "same method")
    for path in (workdir / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    refused(command("evaluate", at), "is damaged")
    (workdir / "decoupling.json").write_text("{")
    refused(command("evaluate", at), "decoupling.json")
    (workdir / "recipe.json").write_text("{")
    refused(command("evaluate", at), "recipe.json")


def test_divergence_names_metric_and_step(tmp_path):
    arguments = [*TRAIN, *METHOD, "--recipe.train.learning_rate=1e30", f"--workdir={tmp_path}"]
    refused(command("train", *arguments), "loss is nan at training step")
