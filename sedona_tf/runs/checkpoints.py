"""Checkpoints of a run: the newest complete one and the one before it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from absl import logging

from sedona_tf.errors import UserError
from sedona_tf.files import make_folder
from sedona_tf.runs.arrays import Arrays, read_arrays, write_arrays

__all__ = ["Checkpoint", "CheckpointStore", "Position", "Snapshots"]


class Position(NamedTuple):
    """Where a run stands: its phase and the steps completed in it."""

    phase: str
    step: int

    def __str__(self) -> str:
        return f"{self.phase} step {self.step}"

    @property
    def file(self) -> str:
        """The name of its checkpoint."""
        return f"{self.phase}-{self.step:08d}.npz"

    def next(self) -> Position:
        """One step further."""
        return Position(self.phase, self.step + 1)


class Checkpoint(NamedTuple):
    """What a run goes on from: where it stood, and its state there."""

    position: Position
    arrays: Arrays


class Snapshots(Protocol):
    """Files that checkpoints refer to: a search's `sedona_tf.search.SnapshotPool`."""

    folder: Path
    files: list[str]

    def check(self, files: Iterable[str]) -> None:
        """Refuses files that are damaged or missing."""

    def protect(self, files: Iterable[str]) -> None:
        """Keeps the files of checkpoints."""

    def collect(self) -> None:
        """Deletes the files that nothing refers to."""


class CheckpointStore:
    """Two checkpoints in a folder, and the snapshots that either refers to.

    A checkpoint is complete if its file and all its snapshots are. A new one is written beside
    the two before the older goes, so that there are two complete ones at any time. A file without
    exactly a checkpoint's name, or with the name of another position, is neither used nor deleted.

    Args:
        folder: where the checkpoints lie; made with the first one.
        pool: a search's snapshots; those that a checkpoint refers to are protected.

    Attributes:
        newest: where the newest complete checkpoint stands, once one was written or read.
    """

    def __init__(self, folder: Path, pool: Snapshots | None = None) -> None:
        self.folder = folder
        self.pool = pool
        self.newest: Position | None = None
        self._complete: dict[Path, list[str]] = {}  # oldest first; the snapshots of each
        self._foreign: set[Path] = set()

    def write(self, position: Position, arrays: Arrays) -> None:
        """Writes a checkpoint, then deletes the last but one and snapshots no longer needed.

        Raises:
            UserError: if it cannot be written; all others are then as they were.
        """
        make_folder(self.folder)
        path = self.folder / position.file
        files = list(self.pool.files) if self.pool else []
        head = json.dumps({**position._asdict(), "files": files}).encode()
        write_arrays(path, {"position": np.frombuffer(head, np.uint8), **arrays})
        self._foreign.discard(path)
        self._complete.pop(path, None)
        self._complete[path] = files
        self.newest = position
        self._complete = dict(list(self._complete.items())[-2:])
        for other in self._paths():
            if other not in self._complete and other not in self._foreign:
                other.unlink(missing_ok=True)
        self._protect()
        if self.pool:
            self.pool.collect()

    def read(self) -> Checkpoint | None:
        """Reads the newest complete checkpoint and returns the pool to its list of snapshots.

        Says so in one line if a newer one is damaged or is not what its name says.

        Returns:
            The checkpoint; None if there is none.

        Raises:
            UserError: if there are checkpoints and all are damaged.
        """
        found: Checkpoint | None = None
        problems: list[str] = []
        complete: dict[Path, list[str]] = {}
        sound: set[str] = set()  # snapshots; two checkpoints share most of theirs
        for path in reversed(self._paths()):
            try:
                arrays = read_arrays(path)
                head = json.loads(arrays.pop("position").tobytes())
                position, files = Position(head["phase"], head["step"]), head["files"]
                if path.name != position.file:
                    self._foreign.add(path)
                    raise UserError(f"{path} holds {position}, not what its name says.")
                if self.pool:
                    self.pool.check(name for name in files if name not in sound)
                    sound.update(files)
            except UserError as error:
                if found is None:
                    problems.append(str(error))
                continue
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path} is not a checkpoint of such a run.") from error
            complete[path] = files
            if found is None:
                found = Checkpoint(position, arrays)
        if found is None and problems:
            raise UserError(f"no checkpoint can be used: {' '.join(problems)}")
        if found is not None:
            if problems:
                logging.warning(f"{' '.join(problems)} Going on from {found.position}.")
            self._complete = dict(reversed(list(complete.items())[:2]))
            self.newest = found.position
            self._protect()
            if self.pool:
                self.pool.files[:] = next(iter(complete.values()))
        return found

    def _protect(self) -> None:
        if self.pool:
            self.pool.protect(name for files in self._complete.values() for name in files)

    def _paths(self) -> list[Path]:
        """The files with a checkpoint's name, oldest first."""
        found = {
            path: (match[1], int(match[2]))  # pretraining comes before search by name too
            for path in (self.folder.iterdir() if self.folder.exists() else ())
            if (match := re.fullmatch(r"([a-z]+)-([0-9]{8,})\.npz", path.name))
        }
        return sorted(found, key=found.__getitem__)
