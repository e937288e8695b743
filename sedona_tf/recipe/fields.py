"""The fields of a recipe, with the paper's settings as defaults."""

from __future__ import annotations

from typing import Any

import ml_collections

__all__ = ["SYNTHETIC", "paper", "with_variant"]


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
