"""Which values a recipe may have, checked before anything is read or built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from sedona_tf.errors import UserError, unknown_name
from sedona_tf.recipe.fields import paper

__all__ = ["check_search", "check_train", "check_tune", "require_files"]


def check_search(recipe: ml_collections.ConfigDict) -> None:
    """Refuses numbers that no search can use, before anything is read or built.

    Args:
        recipe: seed, `data` and `search` are looked at.

    Raises:
        UserError: naming the first field that is missing, of another type than in `paper()`, not
            known, or out of range.
    """
    _check_fields(recipe, ("data", "backbone", "search"))
    _check_data(recipe)
    _check(
        recipe,
        "search",
        positive=(
            "learning_rate",
            "final_learning_rate",
            "architecture_learning_rate",
            "architecture_clip_norm",
        ),
        fractions=("momentum", "label_smoothing", "architecture_beta_1"),
        counts=(
            *("pretraining_steps", "steps", "inner_steps", "checkpoint_every", "snapshots"),
            *("batch_size", "validation_batch_size"),
        ),
        amounts=("weight_decay", "candidates"),
    )
    _check(recipe, "data", shares=("validation_fraction",))


def check_train(recipe: ml_collections.ConfigDict) -> None:
    """Refuses numbers that no training can use; as `check_search`, for the section `train`."""
    _check_fields(recipe, ("data", "backbone", "train"))
    _check_data(recipe)
    _check(
        recipe,
        "train",
        positive=("learning_rate", "final_learning_rate"),
        fractions=("momentum", "label_smoothing"),
        counts=("epochs", "checkpoint_every", "batch_size"),
        amounts=("weight_decay",),
        shares=("validation_fraction",),
    )
    for name, allowed in (
        ("schedule", ("pipelined", "lockstep")),
        ("precision", ("float32", "mixed_bfloat16", "mixed_float16")),
    ):
        if recipe.train[name] not in allowed:
            raise UserError(unknown_name(f"train.{name}", str(recipe.train[name]), allowed))


def check_tune(recipe: ml_collections.ConfigDict) -> None:
    """Refuses a recipe that no tuning can use; as `check_train`, with the fields of `search`."""
    check_train(recipe)
    _check_fields(recipe, ("search",))


def require_files(recipe: ml_collections.ConfigDict) -> None:
    """Refuses IDX data whose training images are not there, before TensorFlow starts.

    Raises:
        UserError: naming the missing file.
    """
    if recipe.data.source == "idx":
        file = Path(recipe.data.data_dir).expanduser() / "train-images-idx3-ubyte"
        if not file.is_file() and not file.with_name(f"{file.name}.gz").is_file():
            raise UserError(f"no file {file}.")


def _check_fields(recipe: ml_collections.ConfigDict, sections: Sequence[str]) -> None:
    """Refuses a recipe without exactly the fields of `paper()`, each of its type."""
    pattern = paper()
    _check_like({name: pattern[name] for name in ("name", "seed", "deterministic")}, recipe)
    for section in sections:
        _check_like({section: pattern[section]}, recipe)


def _check_like(
    pattern: Mapping[str, Any], given: ml_collections.ConfigDict, prefix: str = ""
) -> None:
    for name, like in pattern.items():
        field = f"{prefix}{name}"
        if name not in given:
            raise UserError(f"the recipe lacks the field {field}.")
        value = given[name]
        if isinstance(like, ml_collections.ConfigDict):
            if not isinstance(value, ml_collections.ConfigDict):
                raise _wrong_type(field, "a ConfigDict", value)
            if unknown := set(value) - set(like):
                raise UserError(
                    unknown_name(f"recipe field in {field}", min(unknown), sorted(like))
                )
            _check_like(like, value, f"{field}.")
        elif isinstance(like, float):
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise _wrong_type(field, "a number", value)
        elif type(value) is not type(like) and not (type(like) is tuple and type(value) is list):
            raise _wrong_type(field, _TYPES[type(like)], value)


_TYPES = {bool: "True or False", int: "a whole number", str: "a text", tuple: "a tuple"}


def _wrong_type(field: str, wanted: str, value: Any) -> UserError:
    return UserError(f"the recipe's field {field} must be {wanted}. Received: {value!r:.80}")


def _check_data(recipe: ml_collections.ConfigDict) -> None:
    if not 0 <= recipe.seed < 2**31:
        raise UserError(f"seed must be in [0, 2**31). Received: {recipe.seed}")
    _check(recipe, "data", amounts=("limit", "image_size", "pad", "first_label"))


def _check(
    recipe: ml_collections.ConfigDict,
    section: str,
    positive: Sequence[str] = (),
    fractions: Sequence[str] = (),
    counts: Sequence[str] = (),
    amounts: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    for names, allowed, right in (
        (positive, "positive", lambda value: value > 0),
        (fractions, "in [0, 1)", lambda value: 0 <= value < 1),
        (amounts, "at least 0", lambda value: value >= 0),
        (counts, "at least 1", lambda value: value >= 1),
        (shares, "between 0 and 1, both excluded", lambda value: 0 < value < 1),
    ):
        for name in names:
            value = recipe[section][name]
            if not right(value):
                raise UserError(f"{section}.{name} must be {allowed}. Received: {value}")
