"""The recipes that come with the package, and the checks of their fields."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from sedona_tf.errors import UserError
from sedona_tf.recipe import check_search, paper

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_have_a_smoke_variant(path):
    get_config = runpy.run_path(str(path))["get_config"]
    full, smoke = get_config(), get_config("smoke")
    assert full.name == smoke.name == path.stem
    assert (smoke.search.pretraining_steps, smoke.search.steps, smoke.search.snapshots) == (4, 3, 3)
    assert full.search.steps >= 150
    for config in (full, smoke):
        check_search(config.search)
    with pytest.raises(ValueError, match="unknown variant 'smok'. Allowed: smoke."):
        get_config("smok")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("label_smoothing", -0.1),
        ("weight_decay", -1.0),
        ("inner_steps", 0),
        ("checkpoint_every", 0),
    ],
)
def test_refuses_numbers_out_of_range(field, value):
    config = paper()
    config.search[field] = value
    with pytest.raises(UserError, match=f"search.{field} must be .* Received: {value}"):
        check_search(config.search)
