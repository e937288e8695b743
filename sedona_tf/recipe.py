"""The fields of a recipe, with the paper's settings as defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from sedona_tf.errors import UserError, unknown_name

__all__ = [
    "SYNTHETIC",
    "check_search",
    "check_train",
    "check_tune",
    "paper",
    "require_files",
    "with_variant",
]


def paper() -> ml_collections.ConfigDict:
    """A recipe with the settings of the paper's search on CIFAR-10 (section 4 and appendix).

    Returns:
        A locked config: assigning to a field that it lacks is an error.
    """
    config = ml_collections.ConfigDict()
    config.name = "cifar10"
    config.seed = 0
    config.deterministic = True  # bitwise repeatable on one machine

    config.data = ml_collections.ConfigDict()
    config.data.source = "cifar10"  # digits, idx, synthetic, or a tensorflow-datasets name
    config.data.data_dir = ""  # folder of the IDX files or of prepared tensorflow-datasets
    config.data.train_split = "train"  # of tensorflow-datasets any expression: "train[:90%]"
    config.data.test_split = "test"
    config.data.first_label = 0  # what IDX files call the first class
    config.data.limit = 0  # images to use, class by class alike; 0: all
    config.data.image_size = 0  # side in pixels to resize to; 0: as it is
    config.data.validation_fraction = 0.4  # of train, for the outer loss
    config.data.pad = 4  # pixels around a random crop
    config.data.flip = True  # random left-right flips
    config.data.dry_run = ml_collections.ConfigDict()  # what `train --dry_run` takes the data for
    config.data.dry_run.images = 50_000  # of the training split
    config.data.dry_run.shape = (32, 32, 3)
    config.data.dry_run.classes = 10

    config.backbone = ml_collections.ConfigDict()
    config.backbone.name = "resnet50"
    config.backbone.width = 16
    config.backbone.stem = "small"
    config.backbone.max_units = 0  # of keras:NAME, joining neighbours; 0: all there are

    config.search = ml_collections.ConfigDict()
    config.search.space = ml_collections.ConfigDict()  # see sedona_tf.auxiliary.AuxiliarySpace
    config.search.space.kind = ("separable",)
    config.search.space.depth = (1, 2, 3, 4)
    config.search.space.width_ratio = (0.0,)  # of the unit's channels; 0: the backbone's own
    config.search.space.features = (512,)
    config.search.space.kernel = (3,)
    config.search.space.loss = ("cross_entropy",)  # or predsim
    config.search.candidates = 0  # M, drawn from the space; 0: all of it
    config.search.pretraining_steps = 40_000
    config.search.steps = 2_000
    config.search.inner_steps = 5  # T
    config.search.batch_size = 128
    config.search.validation_batch_size = 1_024
    config.search.snapshots = 50
    config.search.learning_rate = 0.1  # cosine, in each of the two phases
    config.search.final_learning_rate = 1e-3
    config.search.momentum = 0.9
    config.search.weight_decay = 1e-4
    config.search.label_smoothing = 0.1
    config.search.architecture_learning_rate = 1e-2
    config.search.architecture_beta_1 = 0.5
    config.search.architecture_clip_norm = 0.01  # of alpha's and of beta's gradient; ours
    config.search.checkpoint_every = 500  # steps

    config.train = ml_collections.ConfigDict()
    config.train.epochs = 160
    config.train.batch_size = 128
    config.train.validation_fraction = 0.1  # of train, for curves and calibration
    config.train.learning_rate = 0.1  # cosine
    config.train.final_learning_rate = 1e-3
    config.train.momentum = 0.9
    config.train.weight_decay = 1e-4
    config.train.label_smoothing = 0.1  # PredSim's head is trained without
    config.train.schedule = "pipelined"  # or lockstep
    config.train.precision = "float32"  # or mixed_bfloat16, mixed_float16
    config.train.checkpoint_every = 500  # steps
    config.lock()
    return config


SYNTHETIC = {
    "data__source": "synthetic",
    "backbone__name": "resnet18",
    "search__inner_steps": 2,
    "search__batch_size": 8,
    "search__validation_batch_size": 16,
}
"""What "smoke" changes, besides sizes, where the recipe's data are not to be had everywhere."""


def with_variant(
    config: ml_collections.ConfigDict, variant: str, **smoke: Any
) -> ml_collections.ConfigDict:
    """Makes the variant that follows the colon in `recipe.py:variant`.

    Args:
        config: the recipe as it stands.
        variant: "" for the recipe itself; "smoke" for a few steps that show that it runs.
        **smoke: what "smoke" changes besides the numbers of steps, epochs and snapshots: names
            with `__` for the dot, such as `data__limit=100`.

    Returns:
        The config, changed in place.

    Raises:
        ValueError: for any other variant.

    Example:
        >>> with_variant(paper(), "smoke", data__limit=100).data.limit
        100
    """
    if variant == "smoke":
        few = {"search__pretraining_steps": 4, "search__steps": 3, "search__snapshots": 3}
        for name, value in {**few, "train__epochs": 1, **smoke}.items():
            *sections, field = name.split("__")
            inner = config
            for section in sections:
                inner = inner[section]
            inner[field] = value
    elif variant:
        raise ValueError(f"unknown variant '{variant}'. Allowed: smoke.")
    return config


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
