"""The pool of weight snapshots from which the search samples (paper, section 3).

A search that followed one trajectory would judge cuts by late weights only. The pool is filled over
the whole pretraining run, early weights included; each search step takes one at random, trains it a
step further and puts it back. It lives on disk, so memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sedona_tf.arrays import Arrays, read_arrays, write_arrays
from sedona_tf.errors import UserError
from sedona_tf.files import make_folder

__all__ = ["SnapshotPool"]


class SnapshotPool:
    """Snapshots on disk, replaced one by one, never in place.

    A replaced snapshot's file stays until `collect` is not told to keep it; a checkpoint that holds
    `files` can so return to the pool as it was.

    Args:
        folder: where the files lie; made if need be.
        capacity: largest number of snapshots (50 in the paper).

    Example:
        >>> import tempfile
        >>> pool = SnapshotPool(Path(tempfile.mkdtemp()), capacity=2)
        >>> [step for step in range(9) if pool.due(step, steps=8)]
        [4, 8]
        >>> pool.add({"weights": np.zeros(3)}, step=4)
        >>> pool.replace(0, {"weights": np.ones(3)}, step=1)
        >>> pool.load(0)["weights"].tolist(), pool.files
        ([1.0, 1.0, 1.0], ['search-00000001.npz'])
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        if capacity < 1:
            raise UserError(f"snapshots must be at least 1. Received: {capacity}")
        make_folder(folder)
        self.folder = folder
        self.capacity = capacity
        self.files: list[str] = []

    def due(self, step: int, steps: int) -> bool:
        """Whether weights after `step` of `steps` pretraining steps belong in the pool.

        The times are spread evenly up to the last step. The initial weights are left out: their
        moving statistics have seen no data, so the outer loss there is several times any other's,
        and the few steps that draw them would decide the search.
        """
        count = min(self.capacity, steps)
        return step in {round(index * steps / count) for index in range(1, count + 1)}

    def add(self, arrays: Mapping[str, np.ndarray], step: int) -> None:
        """Adds a snapshot taken at pretraining step `step`."""
        self.files.append(self._write(arrays, f"pretraining-{step:08d}.npz"))

    def replace(self, slot: int, arrays: Mapping[str, np.ndarray], step: int) -> None:
        """Puts the weights that search step `step` has trained further in a slot's place."""
        self.files[slot] = self._write(arrays, f"search-{step:08d}.npz")

    def load(self, slot: int) -> Arrays:
        """Reads a slot's snapshot."""
        return read_arrays(self.folder / self.files[slot])

    def check(self, files: Iterable[str]) -> None:
        """Reads snapshots whole, to see that they are there and as they were written.

        Raises:
            UserError: naming the first that is not.
        """
        for name in files:
            read_arrays(self.folder / name)

    def collect(self, keep: Iterable[str]) -> None:
        """Deletes the files that are not in `keep`."""
        keep = set(keep)
        for path in self.folder.glob("*.npz"):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def _write(self, arrays: Mapping[str, np.ndarray], name: str) -> str:
        write_arrays(self.folder / name, arrays)
        return name
