"""Training as a person runs it: outputs, errors, kills, resumption, evaluation afterwards."""

from __future__ import annotations

import json

import numpy as np
import pytest
from search_runs import DIGITS, command, refused
from train_runs import METHOD, TRAIN, last_state


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=dgl", "--dry_run_batch=0"], "dry_run_batch"),
        (["--method=dgl", "--devices=GPU:7"], "GPU:7"),
    ],
)
def test_refuses(arguments, message, tmp_path):
    """The rest of what is refused is in test_main.py and test_run.py."""
    workdir = tmp_path / "run"
    refused(command("train", *TRAIN, *arguments, f"--workdir={workdir}"), message)
    assert not (workdir / "recipe.json").exists()


def test_dry_run_needs_no_data_and_writes_nothing(tmp_path):
    workdir = tmp_path / "run"
    result = command(
        "train",
        f"--recipe={DIGITS}",
        *METHOD,
        "--recipe.data.source=nowhere",
        f"--workdir={workdir}",
        "--dry_run",
        "--dry_run_batch=3",
    )
    assert result.returncode == 0, result.stderr
    for words in ("mlp_sr", "(head)", "at batch 3", "Estimate", "1,294 images"):
        assert words in result.stdout
    assert not workdir.exists()
