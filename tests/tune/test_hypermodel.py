"""The hypermodel: what it decodes, and that it trains as the train command does."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest
from train_runs import last_state
from tune_settings import backbone, recipe, replace_training, values

from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError
from sedona_tf.plans import Plan
from sedona_tf.runs.state import capture
from sedona_tf.train.build import build_data, resolve
from sedona_tf.train.run import run_training
from sedona_tf.tune.hypermodel import DecouplingHyperModel


@pytest.fixture(scope="module")
def data():
    return build_data(recipe())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_blocks", [2, 3, 8])
def test_decodes_as_a_plan_with_these_scores(num_blocks, seed, data, monkeypatch):
    """An independent count of the highest scores too; each third draw has ties."""
    rng = np.random.default_rng(seed)
    scores = rng.random(7) if seed % 3 else rng.integers(0, 3, 7) / 2
    depths = rng.integers(1, 3, 7)
    replace_training(monkeypatch)
    hypermodel = DecouplingHyperModel(recipe(), data, num_blocks)
    found = hypermodel.decoupling(values(scores.tolist(), depths.tolist()))
    plan = Plan(
        backbone="resnet18",
        units=Plan.fingerprint(backbone()),
        candidates=({"kind": "separable", "depth": 1}, {"kind": "separable", "depth": 2}),
        alpha=[(score, 0.0) for score in scores],
        beta=np.eye(2)[depths - 1],
    )
    expected = plan.decode(num_blocks)
    assert (found.cut_after, found.auxiliary) == (expected.cut_after, expected.auxiliary)
    cuts = sorted(np.argsort(-scores, kind="stable")[: num_blocks - 1])
    assert list(found.cut_after) == [cut + 1 for cut in cuts]
    assert [net["depth"] for net in found.auxiliary] == [depths[cut] for cut in cuts]
    assert found.num_blocks == num_blocks and found.backbone == "resnet18"


def test_hyperparameters_of_a_space_of_several_kinds(data):
    config = recipe(search__space__kind=("separable", "predsim"), search__space__loss=("predsim",))
    hypermodel = DecouplingHyperModel(config, data, 3)
    hp = keras_tuner.HyperParameters()
    hypermodel.decoupling(hp)
    tuned = {each.name for each in hp.space if type(each).__name__ != "Fixed"}
    names = ("score", "kind", "depth")
    assert tuned == {f"unit_{unit}/{name}" for unit in range(1, 8) for name in names}
    given = {"unit_2/kind": "predsim", "unit_2/score": 0.9, "unit_5/score": 0.8}
    hp.values |= given | {"unit_5/depth": 2}
    found = hypermodel.decoupling(hp)
    assert found.cut_after == (2, 5)
    assert found.auxiliary == (
        {"kind": "predsim"},
        {"kind": "separable", "depth": 2, "loss": "predsim"},
    )


@pytest.mark.parametrize("num_blocks", [1, 9])
def test_refuses_numbers_of_blocks(num_blocks, data):
    with pytest.raises(UserError, match=f"between 2 and 8, .* Received: {num_blocks}"):
        DecouplingHyperModel(recipe(), data, num_blocks)


def test_trains_as_the_train_command(data, tmp_path):
    """Weights, optimizers and statistics bit for bit, in one process with one thread."""
    config = resolve(recipe(train__epochs=2), "sedona")
    hypermodel = DecouplingHyperModel(config, data, 2, devices="CPU:0")
    hp = values([0.1, 0.2, 0.9, 0.3, 0.0, 0.1, 0.2], [1] * 7)
    keras.utils.set_random_seed(config.seed)
    with process_settings(deterministic=config.deterministic):
        model = hypermodel.build(hp)
        results = hypermodel.fit(hp, model)
    plan = tmp_path / "decoupling.json"
    hypermodel.decoupling(hp).save(plan)
    run_training(config, tmp_path / "run", plan=str(plan), num_blocks=2, devices="CPU:0")
    expected, _ = last_state(tmp_path / "run")
    found = capture(model.state_variables())
    for name, value in expected.items():
        if name.startswith(("weights/", "optimizer/")):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    validation = model.predict(data.validation(), verbose=0).argmax(1)
    labels = np.concatenate([labels for _, labels in data.validation()])
    assert results["val_error"] == pytest.approx(np.mean(validation != labels), abs=1e-6)
    assert results["steps"] == 2 * data.steps_per_epoch


def test_keras_tuners_own_tuner_takes_it(data, tmp_path, monkeypatch):
    built = []
    real = DecouplingHyperModel.build

    def build(self, hp):
        built.append(real(self, hp))
        return built[-1]

    def fit(self, hp, model, callbacks, **_):
        return {"val_error": 1 - hp.values["unit_4/score"]}

    monkeypatch.setattr(DecouplingHyperModel, "build", build)
    monkeypatch.setattr(DecouplingHyperModel, "fit", fit)
    tuner = keras_tuner.RandomSearch(
        DecouplingHyperModel(recipe(), data, 2),
        objective=keras_tuner.Objective("val_error", "min"),
        max_trials=2,
        seed=1,
        directory=str(tmp_path),
    )
    tuner.search(verbose=0)
    (best,) = tuner.get_best_hyperparameters(1)
    scores = [1 - trial.score for trial in tuner.oracle.trials.values()]
    assert len(scores) == 2 and best.values["unit_4/score"] == pytest.approx(max(scores))
    assert len(built) >= 3 and all(len(model.blocks) == 2 for model in built)
