"""What a search does beyond its model's steps."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from train_runs import recorded

from sedona_tf.errors import UserError
from sedona_tf.recipe import paper
from sedona_tf.runs.kept_recipe import read_recipe
from sedona_tf.search import run
from sedona_tf.search.run import architecture_optimizer, run_search

ROOT = Path(__file__).parents[2]


def moves(clip_norm: float, sizes: list[float]) -> list[float]:
    """How far a variable moves in steps whose gradients have these norms and one direction."""
    settings = paper().search
    settings.architecture_clip_norm = clip_norm
    optimizer = architecture_optimizer(settings)
    variable = keras.Variable(np.zeros((2, 2), "float32"))
    places = [0.0]
    for size in sizes:
        optimizer.apply([keras.ops.full((2, 2), size / 2)], [variable])
        places.append(float(variable[0, 0]))
    return [before - after for before, after in zip(places, places[1:], strict=False)]


def test_one_outlier_does_not_stop_the_search():
    """Clipped, it counts as any other; unclipped, the steps after it are ten times too short."""
    usual, outlier = [0.01] * 14, [0.01] * 5 + [1.0] + [0.01] * 8
    np.testing.assert_allclose(moves(0.01, outlier), moves(0.01, usual), rtol=1e-5)
    assert moves(0.01, usual)[-1] == pytest.approx(0.01, rel=1e-3)  # the learning rate
    assert moves(10.0, outlier)[-1] < 0.1 * moves(10.0, usual)[-1]


def test_a_search_is_in_float32_whatever_was_trained_before(monkeypatch, tmp_path):
    class Built(Exception):
        pass

    def stop(backbone, *_, **__):
        parts = [*backbone.units, backbone.head]
        policy = keras.config.dtype_policy().name  # of the candidates to come
        raise Built({policy, *(layer.compute_dtype for part in parts for layer in part.layers)})

    monkeypatch.setattr(run, "SearchModel", stop)
    config = runpy.run_path(str(ROOT / "recipes/digits.py"))["get_config"]("smoke")
    config.deterministic = False  # could not be switched off for the tests that follow
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(Built) as built:
            run_search(config, tmp_path)
        assert built.value.args == ({"float32"},)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("backbone.name", "resnet19", "Did you mean 'resnet18'"),
        ("backbone.max_units", 3, "max_units"),
        ("search.batch_size", 100_000, "batch"),
        ("search.inner_steps", 0, "inner_steps"),
        ("search.snapshots", 0, "snapshots"),
        ("search.learning_rate", 0.0, "learning_rate"),
    ],
)
def test_refuses_settings(field, value, message, tmp_path):
    config = runpy.run_path(str(ROOT / "recipes/digits.py"))["get_config"]("smoke")
    config.deterministic = False  # could not be switched off for the tests that follow
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message) as error:
        run_search(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


def test_what_is_changed_at_a_resume_holds_from_there_on(finished, tmp_path, monkeypatch):
    """In the plan too; and what comes when its part is done is refused, with nothing written."""
    workdir, rates = tmp_path / "run", []
    shutil.copytree(finished[0], workdir)
    config = read_recipe(workdir, "search")
    config.deterministic = False  # could not be switched off for the tests that follow
    before = (workdir / "recipe.json").read_bytes()
    for field, value in (
        ("search.pretraining_steps", 40_000),
        ("search.learning_rate", 0.9),  # no step is left
        ("search.architecture_learning_rate", 0.3),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({field: value})
        with pytest.raises(UserError, match=f"{field} comes too late"):
            run_search(changed, workdir, resume=True)
    assert (workdir / "recipe.json").read_bytes() == before

    def train(run, model, *_):
        rates.append((run.position, float(model.optimizer.learning_rate)))

    monkeypatch.setattr(run, "_train", train)
    changed.search.steps = 9
    plan = run_search(changed, workdir, resume=True)
    assert rates == [(("search", 6), pytest.approx(0.3))]
    first, then = plan.provenance["held"]
    assert (first["phase"], first["step"], then["phase"], then["step"]) == (
        *("pretraining", 0),
        *("search", 6),
    )
    assert {
        name: (value, then["settings"][name])
        for name, value in first["settings"].items()
        if value != then["settings"][name]
    } == {
        "search.steps": (6, 9),
        "search.architecture_learning_rate": (0.01, 0.3),
    }


def test_tensorboard_shows_the_rate_of_the_weights_in_both_phases(finished):
    """From 0.1 by a cosine to 0.001; Adam's, of alpha and beta, is constant."""
    for phase, steps in (("pretraining", 8), ("search", 6)):
        ((step, rate),) = recorded(finished[0] / "logs" / phase)["batch_learning_rate"]
        done = (1 + np.cos(np.pi * (steps - 1) / steps)) / 2
        assert step == steps and rate == pytest.approx(0.001 + 0.099 * done, rel=1e-4)
