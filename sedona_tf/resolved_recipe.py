"""The recipe as a run used it, kept in its folder, and whether a resumed run is the same."""

from __future__ import annotations

import json
from pathlib import Path

import ml_collections

from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.recipe import check_search, check_train, paper

__all__ = ["read_recipe", "require_same_recipe", "write_recipe"]

NAME = "recipe.json"

_PACE = ("checkpoint_every", "momentum", "weight_decay", "learning_rate", "final_learning_rate")
FREE = {
    "data": ("data_dir", "dry_run"),
    "search": ("pretraining_steps", "steps", "architecture_learning_rate", *_PACE),
    "train": ("epochs", *_PACE),
}
"""Fields that may change when a run is resumed; the rest decides what it has seen."""


def write_recipe(workdir: Path, recipe: ml_collections.ConfigDict) -> None:
    """Writes `recipe.json`, which makes the folder a run's."""
    with atomic_write(workdir / NAME) as file:
        file.write(recipe.to_json(indent=2).encode())


def read_recipe(workdir: Path, section: str) -> ml_collections.ConfigDict:
    """The recipe of a run, with today's defaults for fields that it does not have.

    Args:
        workdir: of the run.
        section: what the run was about, `"search"` or `"train"`, whose numbers are checked.

    Raises:
        UserError: if the folder holds no run, or the file is damaged.
    """
    path = workdir / NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{workdir} does not hold a run: {error.strerror or error}.") from error
    recipe = paper()
    try:
        with recipe.unlocked():
            recipe.update(json.loads(text))
        {"search": check_search, "train": check_train}[section](recipe[section])
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} is damaged: {reason}") from error
    return recipe


def require_same_recipe(workdir: Path, recipe: ml_collections.ConfigDict, section: str) -> None:
    """Refuses to go on with a run under other terms than those it was started with.

    Another seed or validation fraction, for one, would train on images held out so far.

    Args:
        workdir: of the run.
        recipe: resolved, asked for now.
        section: what the run is about, `"search"` or `"train"`.

    Raises:
        UserError: naming the first field that differs, or the file if it is damaged.
    """
    was = read_recipe(workdir, section)
    fields = [("seed", was.seed, recipe.seed)]
    for name in ("data", "backbone", section):
        free = FREE.get(name, ())
        fields += [
            (f"{name}.{field}", was[name].get(field), value)
            for field, value in recipe[name].items()
            if field not in free
        ]
    for field, old, new in fields:
        if old != new:
            raise UserError(
                f"{workdir} holds a run with {field} {old!r}, not {new!r}; resume with its recipe, "
                "or take another --workdir."
            )
