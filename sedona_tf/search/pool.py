"""The pool of weight snapshots from which the search samples (paper, section 3).

A search that followed one trajectory would judge cuts by late weights only. The pool is filled over
the whole pretraining run, early weights included; each search step takes one at random, trains it a
step further and puts it back. The pool lives on disk, so memory does not grow with it. Its folder
holds only the pool's snapshots and those that a checkpoint refers to, so the disk does not fill.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sedona_tf.errors import UserError
from sedona_tf.files import make_folder
from sedona_tf.runs.arrays import Arrays, read_arrays, write_arrays

__all__ = ["SnapshotPool"]

NAME = re.compile(r"(pretraining|search)-[0-9]{8,}\.npz")
"""Names of snapshots; other files in the folder are not the pool's."""


class SnapshotPool:
    """Snapshots on disk, replaced one by one, never in place.

    A checkpoint that holds `files` can restore the pool, since `protect` keeps those files. A file
    that is neither in the pool nor protected is deleted before the next one is written. With two
    checkpoints, the folder holds at most three times `capacity` files.

    Args:
        folder: where the files lie; made with the first one.
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
        self.folder = folder
        self.capacity = capacity
        self.files: list[str] = []
        self._protected: set[str] = set()

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
        self.files.append(f"pretraining-{step:08d}.npz")
        self._write(arrays, self.files[-1])

    def replace(self, slot: int, arrays: Mapping[str, np.ndarray], step: int) -> None:
        """Puts the weights that search step `step` has trained further in a slot's place."""
        self.files[slot] = f"search-{step:08d}.npz"
        self._write(arrays, self.files[slot])

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

    def protect(self, files: Iterable[str]) -> None:
        """Keeps the files that checkpoints refer to, in place of those protected before."""
        self._protected = set(files)

    def collect(self) -> None:
        """Deletes the files that are neither in the pool nor protected."""
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if NAME.fullmatch(path.name) and path.name not in {*self.files, *self._protected}:
                path.unlink(missing_ok=True)

    def _write(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        make_folder(self.folder)
        self.collect()
        write_arrays(self.folder / name, arrays)
