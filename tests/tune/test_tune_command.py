"""Tuning as a person runs it: outputs that train accepts, errors, help."""

from __future__ import annotations

import json

import pytest
from search_runs import DIGITS, command, help_of, refused

TUNE = [
    f"--recipe={DIGITS}",
    "--recipe.data.limit=100",
    "--recipe.train.batch_size=32",
    "--recipe.train.schedule=lockstep",  # pipelined, train validates before the last updates
]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder and the output of two trials in two blocks."""
    workdir = tmp_path_factory.mktemp("tuned") / "run"
    result = command("tune", *TUNE, "--blocks=2", "--max_trials=2", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir, result.stdout


def test_train_takes_what_it_writes(tuned, tmp_path):
    workdir, output = tuned
    trials = json.loads((workdir / "trials.json").read_text())["trials"]
    assert [trial["trial"] for trial in trials] == ["0", "1"]
    table = output[output.index("val error (%)") :].splitlines()[2:4]
    assert sorted(line.split()[0] for line in table) == ["0", "1"]
    assert str(workdir / "decoupling.json") in output
    best = min(trials, key=lambda trial: (trial["val_error"], trial["trial"]))
    plan = workdir / "decoupling.json"
    again = ["--blocks=2", f"--plan={plan}", f"--workdir={tmp_path / 'run'}"]
    result = command("train", *TUNE, *again)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test"]["cut_after"] == best["cut_after"]
    assert metrics["test"]["auxiliary"] == best["auxiliary"]
    assert metrics["validation_error"] == best["val_error"]


def test_refuses_and_resumes(tuned):
    workdir, output = tuned
    arguments = [*TUNE, "--blocks=2", "--max_trials=2", f"--workdir={workdir}"]
    refused(command("tune", *arguments), "--resume or another")
    result = command("tune", *arguments, "--resume")
    assert result.returncode == 0, result.stderr
    start = "trial  epochs"
    assert result.stdout[result.stdout.index(start) :] == output[output.index(start) :]
    assert "tracing" not in result.stdout


def test_a_trial_that_diverges_is_named(tmp_path):
    arguments = ["--recipe.train.learning_rate=1e6", "--blocks=2", "--max_trials=2"]
    result = command("tune", *TUNE, *arguments, f"--workdir={tmp_path / 'run'}")
    refused(result, "trial 0 failed: val_loss is nan at training step 3; the first part with such")
    assert "; nothing of it is kept." in result.stderr
    assert not (tmp_path / "run/decoupling.json").exists()


def test_flags(tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    refused(command("tune", *TUNE, workdir), "flag --max_trials is required")
    refused(command("tune", *TUNE, workdir, "--max_trials=2", "--blocks=1"), "blocks")
    refused(command("tune", *TUNE, workdir, "--max_trials=2", "--tuner=grid"), "random")
    assert not (tmp_path / "run").exists()


def test_help_is_quick_and_loads_no_tensorflow():
    text, imported = help_of("tune")
    assert not imported & {"tensorflow", "keras", "keras_tuner", "scipy"}
    for words in ("Examples:", "--max_trials", "(required)", "hyperband", "--max_seconds"):
        assert words in text
