"""The recipe as a run used it, kept in its folder, and whether a resumed run is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from sedona_tf import document
from sedona_tf.errors import UserError, first_line
from sedona_tf.files import atomic_write
from sedona_tf.recipe import check_search, check_train, paper
from sedona_tf.runs.checkpoints import Position

__all__ = ["kept_recipe", "read_recipe", "require_run", "require_same_recipe", "write_recipe"]

NAME = "recipe.json"
KIND = "recipe"

DECISIVE = {
    "search": ("search.",),
    "train": ("train.",),
    "tune": ("train.", "search.space."),
}
"""Purpose of a run to how the fields begin, besides data and backbone, that decide what it sees."""

_PACE = ("checkpoint_every", "momentum", "weight_decay", "learning_rate", "final_learning_rate")
_SEARCH = ("pretraining_steps", "steps", "architecture_learning_rate", *_PACE)
FREE = {
    "search": [f"search.{name}" for name in _SEARCH],
    "train": [f"train.{name}" for name in ("epochs", *_PACE)],
    "tune": ["train.checkpoint_every"],
}
"""Purpose to the decisive fields that may change all the same when a run is resumed."""
LENGTHS = ("search.pretraining_steps", "search.steps", "train.epochs")
PHASES = {"search": ("pretraining", "search"), "train": ("training",), "tune": ()}
"""Purpose to the phases of a run, in their order."""
WORDS = {"search": "a search", "train": "a training", "tune": "a tuning"}


def write_recipe(
    workdir: Path,
    recipe: ml_collections.ConfigDict,
    purpose: str,
    at: Position | None = None,
) -> list[dict[str, Any]]:
    """Writes `recipe.json`, which makes the folder a run's.

    Args:
        workdir: of the run; an earlier `recipe.json` there gives the settings until now.
        recipe: resolved.
        purpose: what the run is for, a key of `DECISIVE`.
        at: where the run goes on with this recipe; None if nothing may change in it.

    Returns:
        Settings of the fields that may change, and where they began to hold: a list of `phase`,
        `step` (steps of the phase that were done) and `settings`, in order. The file has it as
        `held`.

    Raises:
        UserError: if it cannot be written, or a number of the recipe is not finite.
    """
    held: list[dict[str, Any]] = []
    if at is not None:
        content = _flat(recipe)
        names = [name for name in FREE[purpose] if not name.endswith("checkpoint_every")]
        settings = {name: content[name] for name in names}
        earlier = _read_file(workdir)["held"] if (workdir / NAME).exists() else []
        held = [each for each in earlier if _place(purpose, each) < _place(purpose, at._asdict())]
        if not held or held[-1]["settings"] != settings:
            held.append({**at._asdict(), "settings": settings})
    content = {KIND: json.loads(recipe.to_json()), "purpose": purpose, "held": held}
    try:
        data = document.pack(content, KIND)
    except ValueError as error:
        raise UserError(f"the recipe cannot be kept: {first_line(error)}") from error
    with atomic_write(workdir / NAME) as file:
        file.write(data)
    return held


def _read_file(workdir: Path) -> dict[str, Any]:
    return document.unpack(workdir / NAME, {KIND, "purpose", "held"}, KIND)


def _place(purpose: str, position: Mapping[str, Any]) -> tuple[int, int]:
    """Where a phase and step stand among all of a run's."""
    return PHASES[purpose].index(position["phase"]), position["step"]


def read_recipe(workdir: Path, purpose: str) -> ml_collections.ConfigDict:
    """The recipe of a run, with today's defaults for fields that it does not have.

    Args:
        workdir: of the run.
        purpose: what the run was for, a key of `DECISIVE`; decides which numbers are checked.

    Raises:
        UserError: if the folder holds no run, or one of another kind, or the file is damaged.
    """
    path = workdir / NAME
    if not path.exists():
        raise UserError(f"{workdir} does not hold a run: it has no {NAME}.")
    file = _read_file(workdir)
    content, recipe = file[KIND], paper()
    try:
        if file["purpose"] not in WORDS:
            raise ValueError(f"the purpose must be one of {', '.join(WORDS)}.")
        if not isinstance(content, dict):
            raise ValueError("it must be an object.")
        for each in file["held"]:
            _place(file["purpose"], each)
            if type(each["step"]) is not int or not isinstance(each["settings"], dict):
                raise ValueError("held must be a list of phases, steps and settings.")
        with recipe.unlocked():
            recipe.update(content)
        kept = {field for field, value in _flat(recipe).items() if value is not None}
        if lost := _flat(paper()).keys() - kept:
            raise ValueError(f"{min(lost)} has no value.")
        if purpose == "search":
            check_search(recipe)
        else:
            check_train(recipe)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(f"{KIND} '{path}': {first_line(error)}") from error
    if file["purpose"] != purpose:
        raise UserError(f"{workdir} holds {WORDS[file['purpose']]}, not {WORDS[purpose]}.")
    return recipe


def require_run(workdir: Path, purpose: str) -> None:
    """Refuses to resume where there is nothing.

    Args:
        workdir: of the run.
        purpose: what the run is for, a key of `DECISIVE`.

    Raises:
        UserError: if the folder holds no run.
    """
    if not (workdir / NAME).exists():
        raise UserError(f"{workdir} does not hold {WORDS[purpose]}; there is nothing to resume.")


def kept_recipe(workdir: Path, purpose: str, resume: bool) -> ml_collections.ConfigDict | None:
    """The recipe of the run that is to be resumed; None for a new run, in a folder without one.

    Args:
        workdir: of the run.
        purpose: what the run is for, a key of `DECISIVE`.
        resume: whether to go on with the folder's run.

    Raises:
        UserError: if there is a run but `resume` is false; otherwise as for `read_recipe`.
    """
    if resume:
        require_run(workdir, purpose)
        return read_recipe(workdir, purpose)
    if (workdir / NAME).exists():
        raise UserError(f"{workdir} holds a run already; pass --resume or another --workdir.")
    return None


def require_same_recipe(
    workdir: Path,
    kept: ml_collections.ConfigDict,
    recipe: ml_collections.ConfigDict,
    purpose: str,
    at: Position | None = None,
    ended: bool = False,
) -> None:
    """Refuses to go on with a run under other terms than those it was started with.

    Another seed or validation fraction, for example, would train on images held out so far. Other
    fields may change before they have had their effect. Otherwise the run's recipe would state a
    setting that was never used.

    Args:
        workdir: of the run.
        kept: the run's, see `kept_recipe`.
        recipe: resolved, asked for now.
        purpose: what the run is for, a key of `DECISIVE`.
        at: where the run goes on; None if it has no phases.
        ended: whether no step is left to be made.

    Raises:
        UserError: naming the first field that differs, or that comes too late.
    """
    was, now = _flat(kept), _flat(recipe)
    decisive = ("data.", "backbone.", *DECISIVE[purpose])
    for field, new in now.items():
        free = field in FREE[purpose] or field.startswith(("data.data_dir", "data.dry_run."))
        counts = field == "seed" or (field.startswith(decisive) and not free)
        if counts and was.get(field) != new:
            raise UserError(
                f"{workdir} holds a run with {field} {was.get(field)!r}, not {new!r}; resume with "
                "its recipe, or take another --workdir."
            )
    for field in FREE[purpose]:
        past = field == "search.pretraining_steps" and at is not None and at.phase == "search"
        over = ended and field not in LENGTHS and not field.endswith("checkpoint_every")
        if (past or over) and was.get(field) != now[field]:
            raise UserError(
                f"{workdir} is at {at}: {field} comes too late to be {now[field]!r}; it was "
                f"{was.get(field)!r}."
            )


def _flat(recipe: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Dotted names of the fields to their values."""
    result: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, ml_collections.ConfigDict):
            result |= _flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result
