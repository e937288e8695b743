"""What searches, trainings and tunings share: an open folder, and phases of steps saved in it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import keras
import ml_collections
import tensorflow as tf
from absl import logging

from sedona_tf.errors import UserError
from sedona_tf.files import Lock, locked, remove_partial
from sedona_tf.runs.arrays import Arrays
from sedona_tf.runs.callbacks import Checkpoint, FolderGuard, NanGuard, Progress
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.kept_recipe import kept_recipe, require_run
from sedona_tf.runs.signals import StopRequest

__all__ = ["RunFolder", "open_folder"]

RESULTS = {
    "search": ("plan.json", "history.json", "report.png"),
    "train": ("decoupling.json", "history.json", "metrics.json", "curves.png"),
    "tune": ("decoupling.json", "tuner"),
}
"""Purpose of a run to the files that a new run would write over, see `open_folder`."""


class Trainable(Protocol):
    """What is needed of a model: a compiled `keras.Model` that knows its parts."""

    fit: Callable[..., keras.callbacks.History]

    def variables_by_part(self) -> Mapping[str, Sequence[keras.Variable]]:
        """Name of a part to all its variables, from the input up."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder while the run goes on.

    Attributes:
        path: of the folder.
        kept: the recipe of the run that is resumed; None for a new one.
        request: signals that have come.
        lock: on the folder.
    """

    path: Path
    kept: ml_collections.ConfigDict | None
    request: StopRequest
    lock: Lock

    def checkpoint(self, store: CheckpointStore) -> tuple[Position, Arrays] | None:
        """The newest checkpoint of the run that is resumed; says so if there is none yet.

        Removes what was being written when the run ended.

        Args:
            store: of the folder's checkpoints.

        Raises:
            UserError: if both checkpoints are damaged.
        """
        for each in (self.path, store.folder, *([store.pool.folder] if store.pool else [])):
            remove_partial(each)
        saved = store.read() if self.kept else None
        if self.kept and not saved:
            logging.info("there is no checkpoint yet: starting from the beginning")
        return saved

    def train(
        self,
        model: Trainable,
        data: Callable[[int, int], tf.data.Dataset],
        start: Position,
        steps: int,
        store: CheckpointStore,
        every: int,
        capture: Callable[[], Arrays],
        before: Callable[[NanGuard], Sequence[keras.callbacks.Callback]],
        after: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Trains from a step of a phase to its end; saves every few steps, and then.

        Args:
            model: compiled.
            data: of the phase, from a step on and so many steps.
            start: the phase, and its steps that are done.
            steps: of the phase.
            store: where checkpoints go.
            every: steps from one to the next.
            capture: all that a checkpoint holds, now.
            before: makes callbacks that come before a checkpoint is written, if there are steps
                to be made; gets the guard of the model's numbers.
            after: callbacks that come after it.

        Raises:
            UserError: for numbers that are not finite, and if the folder cannot be written.
            Interrupted: by a signal, saved.
        """
        phase, done = start
        guard = NanGuard(phase, done, model.variables_by_part(), store)
        saver = Checkpoint(phase, done, every, store, capture, self.request, guard, self.lock)
        if done < steps:
            progress = Progress(phase, done, steps)
            first = [FolderGuard(self.lock), guard, *before(guard), progress]
            try:
                model.fit(
                    data(done, steps - done),
                    epochs=1,
                    verbose=0,
                    shuffle=False,
                    callbacks=[*first, saver, *after],
                )
            finally:
                progress.close()
        saver.save(steps)
        saver.stop_if_asked(steps)


@contextlib.contextmanager
def open_folder(path: Path, purpose: str, resume: bool) -> Iterator[RunFolder]:
    """Locks a run's folder and takes over signals, until the `with` block ends.

    Args:
        path: of the folder; made if need be.
        purpose: `"search"`, `"train"` or `"tune"`.
        resume: go on with the folder's run rather than refuse a folder that holds one, or a file
            that a new run would write over.

    Raises:
        UserError: if the folder does not hold what it must, is in use, or cannot be written.
        Interrupted: by a signal, at the end.
    """
    if resume:
        require_run(path, purpose)  # a folder without one is not to be made or locked
    with StopRequest() as request, locked(path) as lock:
        kept = kept_recipe(path, purpose, resume)
        taken = [name for name in RESULTS[purpose] if os.path.lexists(path / name)]
        if not kept and taken:
            raise UserError(
                f"{path} holds a {taken[0]} of no run; move it or take another --workdir."
            )
        yield RunFolder(path, kept, request, lock)
