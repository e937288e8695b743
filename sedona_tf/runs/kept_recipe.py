"""The recipe as a run used it, kept in its folder, and whether a resumed run is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import msgspec

from sedona_tf import json_file
from sedona_tf.errors import UserError, first_line
from sedona_tf.json_file import Json, WholeNumber
from sedona_tf.recipe import check_search, check_train, paper
from sedona_tf.runs.checkpoints import Position

__all__ = ["PURPOSES", "kept_recipe", "read_recipe", "require_same_recipe", "write_recipe"]

RECIPE_FILE = "recipe.json"


class Purpose(NamedTuple):
    """What a run can be for.

    Attributes:
        words: for a person.
        phases: in their order.
        results: files that a new run would write over.
        fixed: how the names of fields begin, besides those of data and backbone, that decide what
            the run sees; a resumed run must have them as they were.
        variable: fields among them that may change all the same, before they have had their effect.
    """

    words: str
    phases: tuple[str, ...]
    results: tuple[str, ...]
    fixed: tuple[str, ...]
    variable: tuple[str, ...]


CHECKPOINT_EVERY = "checkpoint_every"
"""The field of a section that changes no result."""
LENGTHS = ("search.pretraining_steps", "search.steps", "train.epochs")
"""Fields that say how long a run is, and so may change when it has ended."""
_PACE = ("learning_rate", "final_learning_rate", "momentum", "weight_decay", CHECKPOINT_EVERY)
_SEARCH_PACE = ("pretraining_steps", "steps", "architecture_learning_rate", *_PACE)
PURPOSES = {
    "search": Purpose(
        words="a search",
        phases=("pretraining", "search"),
        results=("plan.json", "history.json", "report.png"),
        fixed=("search.",),
        variable=tuple(f"search.{name}" for name in _SEARCH_PACE),
    ),
    "train": Purpose(
        words="a training",
        phases=("training",),
        results=("decoupling.json", "history.json", "metrics.json", "curves.png"),
        fixed=("train.",),
        variable=tuple(f"train.{name}" for name in ("epochs", *_PACE)),
    ),
    "tune": Purpose(
        words="a tuning",
        phases=(),
        results=("decoupling.json", "tuner"),
        fixed=("train.", "search.space."),
        variable=(f"train.{CHECKPOINT_EVERY}",),
    ),
}


class Held(json_file.Typed, frozen=True):
    """Settings of the fields that may change, and where they began to hold.

    Attributes:
        phase: of the run.
        step: steps of the phase that were done.
        settings: name to value.
    """

    phase: str
    step: WholeNumber
    settings: dict[str, Json]


class _File(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.recipe"):
    recipe: dict[str, Any]
    purpose: str
    held: tuple[Held, ...]

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}.")
        if any(each.phase not in PURPOSES[self.purpose].phases for each in self.held):
            raise ValueError("held must be of the run's phases.")


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
        purpose: a key of `PURPOSES`.
        at: where the run goes on with this recipe; None if nothing may change in it.

    Returns:
        All that held so far, in order, as JSON has each `Held`. The file has it as `held`.

    Raises:
        UserError: if it cannot be written, or a number of the recipe is not finite.
    """
    held: tuple[Held, ...] = ()
    if at is not None:
        values, names = _flat(recipe), PURPOSES[purpose].variable
        settings = {name: values[name] for name in names if not name.endswith(CHECKPOINT_EVERY)}
        now = Held(at.phase, at.step, settings)
        if (workdir / RECIPE_FILE).exists():
            earlier = json_file.load(workdir / RECIPE_FILE, _File).held
            held = tuple(each for each in earlier if _place(purpose, each) < _place(purpose, now))
        if not held or held[-1].settings != settings:
            held = (*held, now)
    try:
        file = _File(json.loads(recipe.to_json()), purpose, held)
        json_file.save(workdir / RECIPE_FILE, file)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the recipe cannot be kept: {first_line(error)}") from error
    return [msgspec.to_builtins(each) for each in held]


def _place(purpose: str, position: Held) -> tuple[int, int]:
    """Where a phase and step stand among all of a run's."""
    return PURPOSES[purpose].phases.index(position.phase), position.step


def read_recipe(workdir: Path, purpose: str) -> ml_collections.ConfigDict:
    """The recipe of a run, with today's defaults for fields that it does not have.

    Args:
        workdir: of the run.
        purpose: what the run was for, a key of `PURPOSES`; decides which numbers are checked.

    Raises:
        UserError: if the folder holds no run, or one of another kind, or the file is damaged.
    """
    path = workdir / RECIPE_FILE
    if not path.exists():
        wanted = PURPOSES[purpose].words
        raise UserError(f"{workdir} does not hold a run: it has no {RECIPE_FILE} of {wanted}.")
    file, recipe = json_file.load(path, _File), paper()
    try:
        with recipe.unlocked():
            recipe.update(file.recipe)
        check = check_search if purpose == "search" else check_train
        check(recipe)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(f"recipe '{path}': {first_line(error)}") from error
    if file.purpose != purpose:
        was, wanted = PURPOSES[file.purpose].words, PURPOSES[purpose].words
        raise UserError(f"{workdir} holds {was}, not {wanted}.")
    return recipe


def kept_recipe(workdir: Path, purpose: str, resume: bool) -> ml_collections.ConfigDict | None:
    """The recipe of the run that is to be resumed; None for a new run, in a folder without one.

    Args:
        workdir: of the run.
        purpose: what the run is for, a key of `PURPOSES`.
        resume: whether to go on with the folder's run.

    Raises:
        UserError: if there is a run but `resume` is false; otherwise as for `read_recipe`.
    """
    if resume:
        return read_recipe(workdir, purpose)
    if (workdir / RECIPE_FILE).exists():
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
        purpose: what the run is for, a key of `PURPOSES`.
        at: where the run goes on; None if it has no phases.
        ended: whether no step is left to be made.

    Raises:
        UserError: naming the first field that differs, or that comes too late.
    """
    was, now, rules = _flat(kept), _flat(recipe), PURPOSES[purpose]
    changed = [field for field in now if was.get(field) != now[field]]
    for field in changed:
        decides = field == "seed" or field.startswith(("data.", "backbone.", *rules.fixed))
        elsewhere = field.startswith(("data.data_dir", "data.dry_run."))
        if decides and not elsewhere and field not in rules.variable:
            raise UserError(
                f"{workdir} holds a run with {field} {was.get(field)!r}, not {now[field]!r}; "
                "resume with its recipe, or take another --workdir."
            )
    for field in [field for field in rules.variable if field in changed]:
        past = field == "search.pretraining_steps" and at is not None and at.phase == "search"
        over = ended and field not in LENGTHS and not field.endswith(CHECKPOINT_EVERY)
        if past or over:
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
