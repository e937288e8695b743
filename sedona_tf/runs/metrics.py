"""The figures of a training run, as `metrics.json` has them."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import Any

from sedona_tf import json_file
from sedona_tf.json_file import Amount, Fraction, Json, Name, PositiveInt, WholeNumber
from sedona_tf.plans import AuxiliaryOptions, Decoupling, Units

__all__ = ["Metrics", "load_metrics", "save_metrics"]


class TrainingImages(json_file.Typed, frozen=True):
    """What was trained on.

    Attributes:
        name: of the data set.
        limit: of the recipe, on its training split; 0 for all of it.
        training_images: trained on, without those held out.
        input_shape: `(height, width, channels)`.
    """

    name: Name
    limit: WholeNumber
    training_images: WholeNumber
    input_shape: tuple[WholeNumber, ...]


class Errors(json_file.Typed, frozen=True):
    """Fractions of the test images that a model of K blocks gets wrong.

    Attributes:
        exits: `(K-1,)`, of the auxiliary nets, from the input up.
        head: of the head.
        ensembles: `(K-1,)`, of the head with the last 1, ..., K-1 auxiliary nets.
        calibrated_ensembles: `(K-1,)`, the same at the temperatures; None if there are none.
    """

    exits: tuple[Fraction, ...]
    head: Fraction
    ensembles: tuple[Fraction, ...]
    calibrated_ensembles: tuple[Fraction, ...] | None


class TestResult(json_file.Typed, frozen=True):
    """What `Evaluation.to_dict` tells of the test split.

    Attributes:
        backbone, num_units, cut_after, auxiliary: the model's decoupling.
        num_images: of the split.
        errors: of all exits and ensembles.
        temperatures: `(K,)`, the head's last; None if there are none.
    """

    backbone: Name
    num_units: PositiveInt
    cut_after: tuple[PositiveInt, ...]
    auxiliary: tuple[AuxiliaryOptions, ...]
    num_images: WholeNumber
    errors: Errors
    temperatures: tuple[Amount, ...] | None


class Metrics(json_file.Checked, frozen=True, tag_field="format", tag="sedona_tf.metrics"):
    """The figures of a training run of K blocks.

    Attributes:
        method: `"sedona"`, `"backprop"`, `"dgl"` or `"predsim"`.
        num_blocks: K.
        data: what was trained on.
        backbone: the recipe's section.
        units: `(L,)` name and output shape of every unit.
        seed, epochs: of the recipe.
        schedule: `"lockstep"` or `"pipelined"`.
        devices: names.
        images_per_second: of training, without validation; None if it was too short.
        validation_error: of the head, at the end; None if it was not measured.
        test: errors on the test images.
        machine, tensorflow, date: where, with what and when.
    """

    method: Name
    num_blocks: PositiveInt
    data: TrainingImages
    backbone: Mapping[str, Json]
    units: Units
    seed: WholeNumber
    epochs: WholeNumber
    schedule: Name
    devices: tuple[Name, ...]
    images_per_second: Amount | None
    validation_error: Fraction | None
    test: TestResult
    machine: Name
    tensorflow: Name
    date: Name

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks, errors = self.decoupling.num_blocks, self.test.errors
        if self.num_blocks != blocks:
            raise ValueError(f"num_blocks must be {blocks}, one more than there are cuts.")
        if len(self.units) != self.test.num_units:
            raise ValueError(f"units must be {self.test.num_units}, as many as num_units says.")
        for name, values, length in (
            ("exits", errors.exits, blocks - 1),
            ("ensembles", errors.ensembles, blocks - 1),
            ("calibrated_ensembles", errors.calibrated_ensembles, blocks - 1),
            ("temperatures", self.test.temperatures, blocks),
        ):
            if values is not None and len(values) != length:
                raise ValueError(f"{name} must be a list of {length}.")

    @property
    def decoupling(self) -> Decoupling:
        """Of the model."""
        test = self.test
        return Decoupling(test.backbone, test.num_units, test.cut_after, test.auxiliary)

    @property
    def task(self) -> tuple[Hashable, ...]:
        """The settings that two trainings must share for their errors to be comparable."""
        return self.data, self.test.num_images, self.epochs, self.test.backbone, self.units


def save_metrics(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes `metrics.json`, all or nothing.

    Args:
        path: the file.
        content: the fields of `Metrics` as JSON has them; `test` as `Evaluation.to_dict` has it.

    Raises:
        UserError: if it cannot be written.
        ValueError: naming the field that is wrong.
    """
    json_file.save(path, Metrics(**content))


def load_metrics(path: str | os.PathLike[str]) -> Metrics:
    """Reads what `save_metrics` wrote.

    Raises:
        UserError: naming the file and the field, if it is missing or damaged.
    """
    return json_file.load(path, Metrics)
