"""The recipe kept in a run's folder."""

from __future__ import annotations

import contextlib
import json

import pytest

from sedona_tf import recipe
from sedona_tf.errors import UserError
from sedona_tf.runs.checkpoints import Position
from sedona_tf.runs.kept_recipe import read_recipe, require_same_recipe, write_recipe
from sedona_tf.search.run import run_search
from sedona_tf.train.run import run_training
from sedona_tf.tune.run import run_tuning


def write(folder, content, held, purpose="search") -> None:
    file = {"recipe": content, "purpose": purpose, "held": held}
    file = {"format": "sedona_tf.recipe", "version": 1, **file}
    (folder / "recipe.json").write_text(json.dumps(file))


def test_round_trip(tmp_path):
    config = recipe.paper()
    config.search.space.depth = (2, 3)
    config.train.learning_rate = 0.3
    write_recipe(tmp_path, config, "search")
    assert read_recipe(tmp_path, "search").to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("search", {"seed": 1}, "seed 0, not 1"),
        ("search", {"search.inner_steps": 4}, "search.inner_steps 5, not 4"),
        ("search", {"data.limit": 7}, "data.limit 0, not 7"),
        ("train", {"backbone.name": "vgg11"}, "backbone.name 'resnet50', not 'vgg11'"),
        ("train", {"train.batch_size": 3}, "train.batch_size 128, not 3"),
        ("train", {"search.inner_steps": 4}, None),
        ("search", {"train.batch_size": 3}, None),
        ("search", {"search.steps": 9, "search.learning_rate": 0.3, "data.data_dir": "/x"}, None),
        ("train", {"train.epochs": 9, "deterministic": False}, None),
        ("search", {"search.space.depth": (1,)}, r"space.depth \(1, 2, 3, 4\), not \(1,\)"),
        ("search", {"search.candidates": 2}, "search.candidates 0, not 2"),
        ("search", {"data.dry_run.images": 7}, None),
        ("train", {"search.space.depth": (1,)}, None),
        ("tune", {"search.space.depth": (1,)}, r"space.depth \(1, 2, 3, 4\), not \(1,\)"),
        ("tune", {"train.epochs": 9}, "train.epochs 160, not 9"),
        ("tune", {"search.steps": 9, "search.candidates": 2, "train.checkpoint_every": 1}, None),
    ],
)
def test_only_what_decides_what_a_run_has_seen_must_agree(section, changes, message, tmp_path):
    write_recipe(tmp_path, recipe.paper(), section)
    now = recipe.paper()
    now.update_from_flattened_dict(changes)
    if message is None:
        require_same_recipe(tmp_path, read_recipe(tmp_path, section), now, section)
    else:
        with pytest.raises(UserError, match=message):
            require_same_recipe(tmp_path, read_recipe(tmp_path, section), now, section)


@pytest.mark.parametrize("text", ["", "{", "[]", recipe.paper().to_json()])
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(UserError, match=r"recipe '.*recipe\.json' is ") as error:
        read_recipe(tmp_path, "search")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "recipe"),
        ({"search": 3}, "'int' object"),
        ({"search": {"steps": 0}}, "search.steps must be at least 1"),
        ({"search": {"steps": "many"}}, "steps"),
        ({"seed": None}, "field seed must be a whole number"),
        ({"data": None}, "'NoneType' object"),
    ],
)
def test_what_is_no_recipe_is_refused(content, words, tmp_path):
    write(tmp_path, content, [])
    with pytest.raises(UserError, match=rf"recipe\.json'.*{words}") as error:
        read_recipe(tmp_path, "search")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("held", [{"a": 1}, [3], [{"phase": "search", "step": "x"}], None])
def test_what_is_no_record_of_settings_is_refused(held, tmp_path):
    write(tmp_path, json.loads(recipe.paper().to_json()), held)
    with pytest.raises(UserError, match=r"recipe\.json'.*held"):
        read_recipe(tmp_path, "search")


def test_settings_are_recorded_from_the_step_on_that_they_hold_from(tmp_path):
    """A run that falls back to an earlier checkpoint loses what held after it."""

    def written(phase: str, step: int, rate: float) -> list[tuple]:
        config = recipe.paper()
        config.search.learning_rate, config.search.checkpoint_every = rate, step + 1
        held = write_recipe(tmp_path, config, "search", Position(phase, step))
        assert json.loads((tmp_path / "recipe.json").read_text())["held"] == held
        return [(h["phase"], h["step"], h["settings"]["search.learning_rate"]) for h in held]

    start = ("pretraining", 0, 0.1)
    assert written(*start) == [start]
    assert written("pretraining", 9, 0.1) == [start]  # nothing has changed
    assert written("pretraining", 9, 0.2) == [start, ("pretraining", 9, 0.2)]
    assert written("search", 2, 0.3) == [start, ("pretraining", 9, 0.2), ("search", 2, 0.3)]
    assert written("search", 2, 0.4) == [start, ("pretraining", 9, 0.2), ("search", 2, 0.4)]
    assert written("pretraining", 8, 0.5) == [start, ("pretraining", 8, 0.5)]
    assert written("pretraining", 0, 0.6) == [("pretraining", 0, 0.6)]


@pytest.mark.parametrize(
    ("purpose", "changes", "at", "ended", "late"),
    [
        ("search", {"search.pretraining_steps": 9}, ("search", 0), False, True),
        ("search", {"search.pretraining_steps": 9}, ("pretraining", 9), False, False),
        ("search", {"search.learning_rate": 0.5}, ("search", 3), False, False),
        ("search", {"search.momentum": 0.5}, ("search", 3), True, True),
        ("search", {"search.steps": 3, "search.checkpoint_every": 1}, ("search", 3), True, False),
        ("train", {"train.weight_decay": 0.5}, ("training", 3), True, True),
        ("train", {"train.epochs": 3}, ("training", 3), True, False),
    ],
)
def test_what_comes_too_late_is_refused(purpose, changes, at, ended, late, tmp_path):
    now = recipe.paper()
    now.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match="too late") if late else contextlib.nullcontext():
        require_same_recipe(tmp_path, recipe.paper(), now, purpose, Position(*at), ended)


@pytest.mark.parametrize(
    ("purpose", "words"),
    [("train", "holds a training, not a search"), ("bake", "purpose must be"), ([], "purpose")],
)
def test_another_kind_of_run_is_refused(purpose, words, tmp_path):
    content = json.loads(recipe.paper().to_json())
    write(tmp_path, content, [], purpose)
    with pytest.raises(UserError, match=words):
        read_recipe(tmp_path, "search")


def test_a_number_that_no_file_can_hold_is_refused(tmp_path):
    config = recipe.paper()
    config.train.learning_rate = float("inf")
    with pytest.raises(UserError, match="the recipe cannot be kept: .*not JSON compliant"):
        write_recipe(tmp_path, config, "search")
    assert not any(tmp_path.iterdir())


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not hold a run"):
        read_recipe(tmp_path, "train")


@pytest.mark.parametrize("there", ["search", "train", "tune"])
def test_only_its_own_kind_of_run_is_resumed(there, tmp_path):
    """Nor is anything in the folder touched, checkpoint or not."""
    config = recipe.paper()
    write_recipe(tmp_path, config, there)
    before = (tmp_path / "recipe.json").read_bytes()
    resumed = {
        "search": lambda: run_search(config, tmp_path, resume=True),
        "train": lambda: run_training(config, tmp_path, method="dgl", resume=True),
        "tune": lambda: run_tuning(config, tmp_path, num_blocks=2, max_trials=1, resume=True),
    }
    for purpose, resume in resumed.items():
        if purpose != there:
            with pytest.raises(UserError, match="holds a .*, not a "):
                resume()
    assert (tmp_path / "recipe.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]
