"""A run's record of its data: enough to recognise them, and to work without the training split."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from sedona_tf import document
from sedona_tf.data.preprocessing import Normalization
from sedona_tf.errors import UserError, first_line
from sedona_tf.files import atomic_write

__all__ = ["DataRecord"]

NAME = "data.json"
KIND = "data record"


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The data that a run was started with.

    Attributes:
        training: `Source.digest` of the training split.
        test: of the test split; None where the run has none.
        input_shape: `(height, width, channels)` of the images.
        num_classes: of the task.
        training_images: how many are trained on; the others of the split are held out.
        normalization: by the statistics of those that are trained on.
    """

    training: str
    test: str | None
    input_shape: tuple[int, ...]
    num_classes: int
    training_images: int
    normalization: Normalization

    def write(self, workdir: Path) -> None:
        """Writes `data.json` into a run's folder.

        Raises:
            UserError: if it cannot be written.
        """
        with atomic_write(workdir / NAME) as file:
            file.write(document.pack(dataclasses.asdict(self), KIND))

    @classmethod
    def read(cls, workdir: Path) -> DataRecord:
        """The record of the run in a folder.

        Raises:
            UserError: if there is none, or the file is damaged.
        """
        path = workdir / NAME
        if not path.exists():
            raise UserError(f"{workdir} has no {NAME}: it is damaged, or of an earlier version.")
        fields = {field.name for field in dataclasses.fields(cls)}
        content = document.unpack(path, fields, KIND)
        try:
            return cls(**_checked(content))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise UserError(f"{KIND} '{path}' is not a run's: {first_line(error)}.") from error


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """The fields as they were before `write`."""
    digests, shape = [content["training"], content["test"] or ""], content["input_shape"]
    counts = [*shape, content["num_classes"], content["training_images"]]
    if not all(isinstance(digest, str) for digest in digests):
        raise ValueError("a digest must be a string")
    if len(shape) != 3 or not all(type(n) is int and 0 < n < 2**31 for n in counts):
        raise ValueError("shape and counts must be positive")
    statistics = {
        name: tuple(float(value) for value in content["normalization"][name])
        for name in ("mean", "std")
    }
    if {len(values) for values in statistics.values()} != {shape[2]} or min(statistics["std"]) <= 0:
        raise ValueError("mean and std must be of each channel")
    return content | {"input_shape": tuple(shape), "normalization": Normalization(**statistics)}
