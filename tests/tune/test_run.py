"""Runs of trials that take no time: oracles, resumption, failures; and Hyperband's promotions."""

from __future__ import annotations

import gc
import json
import shutil
import signal

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from tune_settings import recipe, replace_training, values

from sedona_tf.errors import Interrupted, UserError
from sedona_tf.plans import Decoupling
from sedona_tf.runs.run import Run, open_run
from sedona_tf.runs.state import capture
from sedona_tf.train.build import build_data, resolve
from sedona_tf.tune import tuner
from sedona_tf.tune.hypermodel import DecouplingHyperModel
from sedona_tf.tune.oracles import TUNERS, make_oracle
from sedona_tf.tune.run import run_tuning
from sedona_tf.tune.tuner import DecouplingTuner


def by_score(values, epochs) -> float:
    """Less the nearer unit 4's score is to 1, and the longer it is trained."""
    return (1 - values["unit_4/score"]) / epochs


def in_second_trial(monkeypatch, happen) -> list:
    """Training is `by_score`, but before its second time `happen` is called; returns all calls."""
    calls = []

    def train(values, epochs):
        calls.append(values)
        if len(calls) == 2:
            happen()
        return by_score(values, epochs)

    replace_training(monkeypatch, train)
    return calls


@pytest.fixture
def quick(monkeypatch):
    replace_training(monkeypatch, by_score)


def tune(workdir, config=None, **given):
    arguments = {"num_blocks": 3, "max_trials": 6, **given}
    return run_tuning(config or recipe(), workdir, **arguments)


def found(trials) -> list:
    """All but the times."""
    return [{**trial.to_dict(), "seconds": None} for trial in trials]


@pytest.mark.parametrize("name", TUNERS)
def test_writes_the_best_and_all(name, quick, tmp_path):
    trials = tune(tmp_path, tuner=name, epochs=4)
    assert [trial.val_error for trial in trials] == sorted(trial.val_error for trial in trials)
    listed = json.loads((tmp_path / "trials.json").read_text())
    assert (listed["tuner"], listed["num_blocks"], len(listed["trials"])) == (name, 3, 6)
    best = min(listed["trials"], key=lambda trial: trial["val_error"])
    decoupling = Decoupling.load(tmp_path / "decoupling.json", num_blocks=3)
    assert list(decoupling.cut_after) == best["cut_after"]
    assert decoupling.provenance["trial"] == best and decoupling.provenance["trials"] == 6
    states = json.loads((tmp_path / "tuner/tuner0.json").read_text())["trials"]
    for trial in listed["trials"]:
        assert trial["seconds"] > 0 and trial["epochs"] <= 4
        (state,) = (each for each in states if each["trial_id"] == trial["trial"])
        scores = [state["hyperparameters"]["values"][f"unit_{u}/score"] for u in range(1, 8)]
        cuts = sorted(np.argsort(scores)[::-1][:2] + 1)
        assert trial["cut_after"] == list(cuts)
        if trial["steps"]:  # else it is an earlier trial's, of the same cuts
            assert trial["val_error"] == (1 - scores[3]) / trial["epochs"]
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["train"]["epochs"] == 4


def test_hyperband_promotes_the_best(quick, tmp_path):
    """With 4 epochs and factor 3: brackets of 2, 4 epochs; the promoted goes on from epoch 2."""
    trials = sorted(tune(tmp_path, tuner="hyperband", epochs=4), key=lambda trial: trial.trial)
    short = [trial for trial in trials if trial.epochs < 4]
    promoted = next(trial for trial in trials if trial.epochs == 4)
    parents = [t for t in short if t.decoupling.cut_after == promoted.decoupling.cut_after]
    assert min(short, key=lambda trial: trial.val_error) in parents
    first = min(short, key=lambda trial: trial.val_error).epochs
    assert promoted.steps == 3 * (4 - first) and len(short) >= 2


@pytest.mark.parametrize("name", ["random", "hyperband"])
def test_resumed_trials_are_those_of_one_run(name, quick, tmp_path):
    whole = tune(tmp_path / "whole", tuner=name, epochs=4)
    for count in (2, 2, 5, 6):  # the second one has nothing to do
        resume = (tmp_path / "parts").exists()
        parts = tune(tmp_path / "parts", tuner=name, epochs=4, max_trials=count, resume=resume)
        assert len(parts) == count
    assert found(parts) == found(whole)
    other = tune(tmp_path / "other", recipe(seed=1), tuner=name, epochs=4)
    assert found(other) != found(whole)


def test_a_tie_is_broken_alike_after_a_resume_with_more_digits(tmp_path, monkeypatch):
    """Trials 2 to 11 are equally good; their names are 2, 03, ..., 11 in the resumed run."""

    def run(name: str, *counts: int) -> list:
        calls = iter(range(12))
        replace_training(monkeypatch, lambda *_: 1.0 if next(calls) < 2 else 0.5)
        for count in counts:
            resume = (tmp_path / name).exists()
            trials = tune(tmp_path / name, max_trials=count, resume=resume)
        return [(int(trial.trial), trial.decoupling.cut_after) for trial in trials]

    parts = run("parts", 3, 12)
    assert parts == run("whole", 12)
    assert [number for number, _ in parts] == [*range(2, 12), 0, 1]
    listed = json.loads((tmp_path / "parts/trials.json").read_text())["trials"]
    assert [int(trial["trial"]) for trial in listed] == list(range(12))


@pytest.mark.parametrize("name", ["random", "hyperband"])
def test_no_decoupling_is_trained_in_full_twice(name, tmp_path, monkeypatch):
    """Seven ways to cut once and one candidate: seven points."""
    trained = []

    def train(values, epochs):
        scores = [values[f"unit_{unit}/score"] for unit in range(1, 8)]
        trained.append((int(np.argmax(scores)) + 1, epochs))
        return 0.1 * trained[-1][0]

    replace_training(monkeypatch, train)
    config = recipe(search__space__depth=(1,))
    trials = tune(tmp_path, config, tuner=name, num_blocks=2, max_trials=20)
    assert len(trained) == len(set(trained)) <= 7
    for trial in trials:
        assert trial.val_error == 0.1 * trial.decoupling.cut_after[0]
    assert sum(trial.steps > 0 for trial in trials) == len(trained)
    if name == "random":
        assert len(trials) == 7  # all that there are
    else:
        assert len(trials) > len(trained)


def test_no_trial_starts_once_the_time_is_spent(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(tuner.time, "perf_counter", iter(range(0, 100_000, 10)).__next__)
    assert len(tune(tmp_path, max_trials=50, max_seconds=35)) == 4  # each takes ten seconds
    assert len(tune(tmp_path, max_trials=50, max_seconds=41, resume=True)) == 5


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (UserError("it diverged"), UserError, "trial 1 failed: it diverged"),
        (OSError(28, "No space"), UserError, "trial 1 failed: .*No space"),
        (ZeroDivisionError("oh"), ZeroDivisionError, "oh"),
    ],
)
def test_a_failed_trial_is_an_error_and_is_run_again(error, raised, message, tmp_path, monkeypatch):
    replace_training(monkeypatch, by_score)
    whole = tune(tmp_path / "whole", max_trials=3)

    def fail():
        raise error

    calls = in_second_trial(monkeypatch, fail)
    with pytest.raises(raised, match=message) as caught:
        tune(tmp_path / "run", max_trials=3)
    assert error in (caught.value, caught.value.__cause__)
    assert len(json.loads((tmp_path / "run/trials.json").read_text())["trials"]) == 1
    assert not (tmp_path / "run/decoupling.json").exists()
    assert found(tune(tmp_path / "run", max_trials=3, resume=True)) == found(whole)
    assert calls[1] == calls[2] and len(calls) == 4


def test_what_keras_tuner_cannot_keep_is_an_error(quick, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("the disk is gone")

    monkeypatch.setattr(keras_tuner.oracles.RandomSearchOracle, "update_trial", broken)
    with pytest.raises(UserError, match="the disk is gone"):
        tune(tmp_path)


def test_a_folder_deleted_while_a_trial_is_made_stays_so(quick, tmp_path, monkeypatch):
    folder, create = tmp_path / "run", keras_tuner.Oracle.create_trial

    def create_trial(self, worker):
        shutil.rmtree(folder)
        return create(self, worker)

    monkeypatch.setattr(keras_tuner.Oracle, "create_trial", create_trial)
    with pytest.raises(UserError, match=f"{folder} was deleted or replaced"):
        tune(folder)
    assert not folder.exists()


def test_a_signal_ends_between_steps(tmp_path, monkeypatch):
    """And a trial that was made but not begun, as earlier versions kept it, leaves no trace."""
    replace_training(monkeypatch, by_score)
    whole = tune(tmp_path / "whole", max_trials=3)
    in_second_trial(monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match="stopped between two trials; --resume goes on"):
        tune(tmp_path / "run", max_trials=3)
    folder = tmp_path / "run/tuner"
    state = json.loads((folder / "tuner0.json").read_text())["trials"][0]
    state |= {"trial_id": "2", "status": "RUNNING", "score": None}
    (folder / "trial_2").mkdir()
    (folder / "trial_2/trial.json").write_text(json.dumps(state))
    assert found(tune(tmp_path / "run", max_trials=3, resume=True)) == found(whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tuner": "randon"}, "Did you mean 'random'"),
        ({"num_blocks": 9}, "between 2 and 8"),
        ({"max_trials": 0}, "max_trials must be at least 1"),
        ({"epochs": 0}, "train.epochs must be at least 1"),
        ({"config": recipe(search__space__kernel=(2,))}, "kernel"),
        ({"resume": True}, "does not hold a run"),
    ],
)
def test_refuses(given, message, quick, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        tune(tmp_path / "run", **given)
    assert "\n" not in str(error.value)
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {".lock"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resume": False}, "holds a run already"),
        ({"num_blocks": 2}, "trials with num_blocks 3, not 2"),
        ({"tuner": "bayesian"}, "trials with tuner 'random', not 'bayesian'"),
        ({"epochs": 2}, "train.epochs 1, not 2"),
        ({"config": recipe(seed=1)}, "seed 0, not 1"),
        ({"config": recipe(train__learning_rate=0.2)}, "train.learning_rate 0.1, not 0.2"),
        ({"config": recipe(search__space__depth=(1,))}, r"space.depth \(1, 2\), not \(1,\)"),
    ],
)
def test_refuses_to_go_on_under_other_terms(given, message, quick, tmp_path):
    tune(tmp_path, max_trials=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(UserError, match=message) as error:
        tune(tmp_path, **{"resume": True, **given})
    assert "\n" not in str(error.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
@pytest.mark.parametrize("name", ["trials.json", "tuner/tuner0.json"])
def test_refuses_damaged_files(name, content, quick, tmp_path):
    tune(tmp_path, max_trials=1)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}' is damaged") as error:
        tune(tmp_path, resume=True)
    assert "\n" not in str(error.value)


@pytest.fixture
def two_epochs(tmp_path):
    with open_run("tune", tmp_path, resolve(recipe(train__epochs=2), "sedona"), False) as run:
        yield run


def test_a_promoted_trial_goes_on_where_it_ended(two_epochs: Run):
    """One epoch and then another: bit for bit the weights of two, in one process."""
    config = two_epochs.recipe
    hypermodel = DecouplingHyperModel(config, build_data(config), 2, devices="CPU:0")
    given = values([0.1, 0.2, 0.9, 0.3, 0.0, 0.1, 0.2], [1] * 7)
    hypermodel.decoupling(given)
    runner = DecouplingTuner(make_oracle("random", hypermodel, 9), hypermodel, two_epochs)
    models, build = [], hypermodel.build
    hypermodel.build = lambda hp: models.append(build(hp)) or models[-1]

    def run(name: str, **more) -> dict:
        hp = given.copy()
        hp.values |= {f"tuner/{key}": value for key, value in more.items()}
        return runner.run_trial(keras_tuner.engine.trial.Trial(hp, name))

    whole = run("0")
    run("1", initial_epoch=0, epochs=1)
    parts = run("2", initial_epoch=1, epochs=2, trial_id="1")
    assert (parts["val_error"], parts["val_loss"]) == (whole["val_error"], whole["val_loss"])
    assert parts["steps"] * 2 == whole["steps"]
    expected, end = (capture(model.state_variables()) for model in (models[0], models[2]))
    for name, value in expected.items():
        if name.startswith(("weights/", "optimizer/")):
            np.testing.assert_array_equal(end[name], value, err_msg=name)


def test_a_trial_leaves_no_graph(monkeypatch, tmp_path):
    """Trained in earnest: batch normalisation's own gradients are what TensorFlow would keep."""
    run_trial, graphs = DecouplingTuner.run_trial, []

    def count():
        keras.utils.clear_session()
        gc.collect()
        graphs.append(sum(issubclass(type(each), tf.Graph) for each in gc.get_objects()))

    def run_and_count(self, trial):
        count()
        found = run_trial(self, trial)
        count()
        return found

    monkeypatch.setattr(DecouplingTuner, "run_trial", run_and_count)
    tune(tmp_path, num_blocks=2, max_trials=1)
    assert graphs[0] == graphs[1]
