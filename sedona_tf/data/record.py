"""A run's record of its data: enough to recognise them, and to work without the training split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from sedona_tf import json_file
from sedona_tf.data.preprocessing import Normalization
from sedona_tf.errors import UserError
from sedona_tf.json_file import PositiveInt

__all__ = ["DataRecord"]

DATA_FILE = "data.json"
"""Name of the record in a run's folder."""


class DataRecord(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.data record"):
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
    input_shape: Annotated[tuple[PositiveInt, ...], Meta(min_length=3, max_length=3)]
    num_classes: PositiveInt
    training_images: PositiveInt
    normalization: Normalization

    def __post_init__(self) -> None:
        mean, std = self.normalization.mean, self.normalization.std
        if not len(mean) == len(std) == self.input_shape[2]:
            raise ValueError("normalization must have a mean and std of each channel.")

    def write(self, workdir: Path) -> None:
        """Writes `data.json` into a run's folder.

        Raises:
            UserError: if it cannot be written.
        """
        json_file.save(workdir / DATA_FILE, self)

    @classmethod
    def read(cls, workdir: Path) -> DataRecord:
        """The record of the run in a folder.

        Raises:
            UserError: if there is none, or the file is damaged.
        """
        path = workdir / DATA_FILE
        if not path.exists():
            raise UserError(f"{workdir} has no {DATA_FILE}: damaged, or of an earlier version.")
        return json_file.load(path, cls)
