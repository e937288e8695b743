"""What a training run's folder says about it, and whether a resumed run is the same."""

from __future__ import annotations

import json
from pathlib import Path

import ml_collections

from sedona_tf.decoupled.build import TRAINED_AS
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans import Decoupling
from sedona_tf.recipe import check_train, paper

__all__ = ["read_recipe", "require_same_run", "write_description"]

FREE = {
    "data": ("data_dir", "dry_run"),
    "train": (
        *("epochs", "checkpoint_every", "momentum", "weight_decay"),
        *("learning_rate", "final_learning_rate"),
    ),
}
"""Fields that may change when a run is resumed; the rest decides what it has seen."""


def write_description(
    workdir: Path, recipe: ml_collections.ConfigDict, decoupling: Decoupling
) -> None:
    """Writes `decoupling.json` and `recipe.json`, which makes the folder a run's."""
    decoupling.save(workdir / "decoupling.json")
    with atomic_write(workdir / "recipe.json") as file:
        file.write(recipe.to_json(indent=2).encode())


def read_recipe(workdir: Path) -> ml_collections.ConfigDict:
    """The recipe of a run, with today's defaults for fields that it does not have.

    Raises:
        UserError: if the folder holds no run, or the file is damaged.
    """
    path = workdir / "recipe.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{workdir} does not hold a run: {error.strerror or error}.") from error
    recipe = paper()
    try:
        with recipe.unlocked():
            recipe.update(json.loads(text))
        check_train(recipe.train)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} is damaged: {reason}") from error
    return recipe


def require_same_run(
    workdir: Path, recipe: ml_collections.ConfigDict, decoupling: Decoupling
) -> None:
    """Refuses to go on with a run under other terms than those it was started with.

    Another seed or validation fraction, for one, would train on images held out so far.

    Args:
        workdir: of the run.
        recipe: resolved, asked for now.
        decoupling: asked for now.

    Raises:
        UserError: saying what differs, or which file is damaged.
    """
    found = Decoupling.load(workdir / "decoupling.json")
    method = decoupling.provenance[TRAINED_AS]  # runs of earlier versions did not note theirs
    was, now = _words(found, method), _words(decoupling, method)
    if was != now or found.auxiliary != decoupling.auxiliary:
        other = f"not {now}" if was != now else "with other auxiliary nets"
        raise UserError(
            f"{workdir} holds a run of {was}, {other}; resume with its --method, --plan and "
            "--blocks, or take another --workdir."
        )
    old = read_recipe(workdir)
    if old.seed != recipe.seed:
        raise _differs(workdir, "seed", old.seed, recipe.seed)
    for section in ("data", "backbone", "train"):
        for name, value in recipe[section].items():
            if name not in FREE.get(section, ()) and old[section].get(name) != value:
                raise _differs(workdir, f"{section}.{name}", old[section].get(name), value)


def _words(decoupling: Decoupling, method: str) -> str:
    method = decoupling.provenance.get(TRAINED_AS, method)
    count = decoupling.num_blocks
    cuts = f" cut after {', '.join(map(str, decoupling.cut_after))}" if count > 1 else ""
    return f"{method} with {count} block{'s' * (count > 1)}{cuts}"


def _differs(workdir: Path, field: str, was: object, now: object) -> UserError:
    return UserError(
        f"{workdir} holds a run with {field} {was!r}, not {now!r}; resume with its recipe, or "
        "take another --workdir."
    )
