"""The figures of a training run, as `metrics.json` has them."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Hashable, Mapping
from typing import Any

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans import Decoupling
from sedona_tf.plans.fields import Units, is_name, unit_shapes

__all__ = ["FIELDS", "KIND", "Metrics", "load_metrics", "save_metrics"]

KIND = "metrics"
FIELDS = {
    *("method", "num_blocks", "data", "backbone", "units", "seed", "epochs", "schedule", "devices"),
    *("images_per_second", "validation_error", "test", "machine", "tensorflow", "date"),
}
"""Of the file's content."""
LARGEST = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The figures of a training run of K blocks; errors are fractions from 0 to 1.

    Attributes:
        method: `"sedona"`, `"backprop"`, `"dgl"` or `"predsim"`.
        decoupling: of the model.
        data: name of the data set.
        limit: of the recipe, on its training split; 0 for all of it.
        training_images: trained on, without those held out.
        input_shape: `(height, width, channels)`.
        units: `(L,)` name and output shape of every unit.
        exits: `(K-1,)`, errors of the auxiliary nets on the test images, from the input up.
        head: of the head.
        ensembles: `(K-1,)`, of the head with the last 1, ..., K-1 auxiliary nets.
        calibrated: `(K-1,)`, the same at the temperatures; None if there are none.
        temperatures: `(K,)`, the head's last; None if there are none.
        num_images: of the test split.
        validation_error: of the head, at the end; None if it was not measured.
        images_per_second: of training, without validation; None if it was too short.
        epochs, seed: of the recipe.
        schedule: `"lockstep"` or `"pipelined"`.
        devices: `(K,)` names.
        machine, tensorflow, date: where, with what and when.
    """

    method: str
    decoupling: Decoupling
    data: str
    limit: int
    training_images: int
    input_shape: tuple[int, ...]
    units: Units
    exits: tuple[float, ...]
    head: float
    ensembles: tuple[float, ...]
    calibrated: tuple[float, ...] | None
    temperatures: tuple[float, ...] | None
    num_images: int
    validation_error: float | None
    images_per_second: float | None
    epochs: int
    seed: int
    schedule: str
    devices: tuple[str, ...]
    machine: str
    tensorflow: str
    date: str

    @property
    def num_blocks(self) -> int:
        """K."""
        return self.decoupling.num_blocks

    @property
    def task(self) -> tuple[Hashable, ...]:
        """The settings that two trainings must share for their errors to be comparable."""
        data = (self.data, self.limit, self.training_images, self.input_shape, self.num_images)
        return *data, self.epochs, self.decoupling.backbone, self.units


def save_metrics(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Writes `metrics.json`, all or nothing.

    Args:
        path: the file.
        content: JSON-ready, with the fields `FIELDS`; `test` as `Evaluation.to_dict` has it.

    Raises:
        UserError: if it cannot be written.
    """
    data = document.pack(content, KIND)
    with atomic_write(path) as file:
        file.write(data)


def load_metrics(path: str | os.PathLike[str]) -> Metrics:
    """Reads what `save_metrics` wrote.

    Args:
        path: the file.

    Raises:
        UserError: naming the file and the field, if it is missing or damaged.
    """
    content = document.unpack(path, FIELDS, KIND)
    try:
        return _read(content)
    except KeyError as error:
        raise UserError(f"{KIND} '{path}' lacks the field {str(error.args[0])!a:.80}.") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{KIND} '{path}': {error}") from error


def _read(data: Mapping[str, Any]) -> Metrics:
    test, images = _object("test", data["test"]), _object("data", data["data"])
    errors = _object("test.errors", test["errors"])
    decoupling = Decoupling(
        test["backbone"], test["num_units"], test["cut_after"], test["auxiliary"]
    )
    blocks = decoupling.num_blocks
    if data["num_blocks"] != blocks:
        raise ValueError(f"num_blocks must be {blocks}, one more than there are cuts.")
    units = unit_shapes(data["units"])
    if len(units) != decoupling.num_units:
        raise ValueError(f"units must be {decoupling.num_units}, as many as num_units says.")
    calibrated, temperatures = errors["calibrated_ensembles"], test["temperatures"]
    speed, validation = data["images_per_second"], data["validation_error"]
    return Metrics(
        decoupling=decoupling,
        data=_text("data.name", images["name"]),
        limit=_count("data.limit", images["limit"]),
        training_images=_count("data.training_images", images["training_images"]),
        input_shape=tuple(_count("data.input_shape", size) for size in images["input_shape"]),
        units=units,
        exits=_numbers("exits", errors["exits"], blocks - 1, 1),
        head=_number("head", errors["head"], 1),
        ensembles=_numbers("ensembles", errors["ensembles"], blocks - 1, 1),
        calibrated=(
            None
            if calibrated is None
            else _numbers("calibrated_ensembles", calibrated, blocks - 1, 1)
        ),
        temperatures=(
            None if temperatures is None else _numbers("temperatures", temperatures, blocks)
        ),
        num_images=_count("num_images", test["num_images"]),
        validation_error=(
            None if validation is None else _number("validation_error", validation, 1)
        ),
        images_per_second=None if speed is None else _number("images_per_second", speed),
        epochs=_count("epochs", data["epochs"]),
        seed=_count("seed", data["seed"]),
        devices=tuple(_text("devices", device) for device in data["devices"]),
        **{
            name: _text(name, data[name])
            for name in ("method", "schedule", "machine", "tensorflow", "date")
        },
    )


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object.")
    return value


def _text(name: str, value: Any) -> str:
    if not is_name(value):
        raise ValueError(f"{name} must be text of one line.")
    return value


def _count(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} must be a whole number from 0.")
    return value


def _number(name: str, value: Any, most: float = LARGEST) -> float:
    if type(value) not in (int, float) or not 0 <= value <= most:
        limit = f" to {most:g}" if most < LARGEST else ""
        raise ValueError(f"{name} must hold numbers from 0{limit}.")
    return float(value)


def _numbers(name: str, values: Any, count: int, most: float = LARGEST) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} must be a list of {count}.")
    return tuple(_number(name, value, most) for value in values)
