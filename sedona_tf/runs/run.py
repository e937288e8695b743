"""Run: a search, a training or a tuning in its folder, new or resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import ml_collections
from absl import logging

from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError
from sedona_tf.files import Lock, locked, remove_partial
from sedona_tf.runs.checkpoints import Checkpoint, CheckpointStore, Position, Snapshots
from sedona_tf.runs.kept_recipe import PURPOSES, kept_recipe, require_same_recipe, write_recipe
from sedona_tf.runs.nan_guard import NanGuard
from sedona_tf.runs.signals import StopRequest
from sedona_tf.runs.state import History, Variables, capture, restore

__all__ = ["Run", "open_run"]


class Trainable(Protocol):
    """What is needed of a model: a compiled `keras.Model` that knows its parts and its state."""

    fit: Callable[..., keras.callbacks.History]

    def variables_by_part(self) -> Variables:
        """Name of a part to all its variables, from the input up."""

    def state_variables(self) -> Variables:
        """All that a resumed run must find as it was."""


@dataclasses.dataclass
class Run:
    """A run while it goes on: what its steps and callbacks share.

    `open_run` makes one. `set_phases` then says how long it is and where it goes on, `start` gives
    it the model, and `sedona_tf.runs.train_phase` trains each of the `remaining` phases.

    Attributes:
        purpose: `"search"`, `"train"` or `"tune"`, which is also the recipe's section.
        folder: of the run, locked.
        recipe: resolved.
        kept: the recipe of the run that is resumed; None for a new one.
        request: notes signals.
        lock: on the folder.
        store: of the run's checkpoints.
        checkpoint: what the run goes on from, until `start`; None at the beginning.
        history: column to its numbers; callbacks add to it, and checkpoints hold it.
        phases: name to number of steps, in their order.
        position: the phase, and its steps that are done.
        held: see `write_recipe`.
        model: what is trained.
        guard: refuses numbers of the model that are not finite.
    """

    purpose: str
    folder: Path
    recipe: ml_collections.ConfigDict
    kept: ml_collections.ConfigDict | None
    request: StopRequest
    lock: Lock
    store: CheckpointStore
    checkpoint: Checkpoint | None = None
    history: History = dataclasses.field(default_factory=dict)
    phases: Mapping[str, int] = dataclasses.field(init=False)
    position: Position = dataclasses.field(init=False)
    held: list[dict[str, Any]] = dataclasses.field(init=False)
    model: Trainable = dataclasses.field(init=False)
    guard: NanGuard = dataclasses.field(init=False)

    @property
    def steps(self) -> int:
        """Of the whole phase."""
        return self.phases[self.position.phase]

    def set_phases(self, phases: Mapping[str, int]) -> None:
        """Sets the run's phases, and its position among them.

        Args:
            phases: name to number of steps, in their order.

        Raises:
            UserError: if the run is resumed under other terms, see `require_same_recipe`, or has
                gone further than the recipe says.
        """
        self.phases = phases
        first, last = Position(next(iter(phases)), 0), Position(*list(phases.items())[-1])
        self.position = self.checkpoint.position if self.checkpoint else first
        if self.kept and self.checkpoint:
            require_same_recipe(
                *(self.folder, self.kept, self.recipe, self.purpose),
                at=self.position,
                ended=self.position == last,
            )
            if self.position.step > self.steps:
                raise UserError(
                    f"the checkpoint is at {self.position}, past the recipe's {self.steps}."
                )
        elif self.kept:
            logging.info("there is no checkpoint yet: starting from the beginning")

    def start(self, model: Trainable) -> None:
        """Sets the model to its state in the checkpoint, and makes the folder the run's.

        Raises:
            UserError: if the checkpoint is of another model, or the recipe cannot be written.
        """
        self.model, self.guard = model, NanGuard(model.variables_by_part(), self.store)
        if self.checkpoint:
            restore(self.checkpoint.arrays, model.state_variables(), self.history)
            self.checkpoint = None  # a copy of the weights
        self.held = write_recipe(self.folder, self.recipe, self.purpose, self.position)

    def remaining(self) -> Iterator[str]:
        """The phases from the position on; each is entered before it is given."""
        names = list(self.phases)
        for name in names[names.index(self.position.phase) :]:
            if name != self.position.phase:
                self.position = Position(name, 0)
            yield name

    def save(self) -> None:
        """Writes a checkpoint: all that the run needs to go on from its position.

        Raises:
            UserError: if something in it is not finite, it cannot be written, or the folder is
                another by now; the checkpoints that there are stay.
        """
        self.lock.require()
        arrays = capture(self.model.state_variables(), self.history)
        self.guard.check_arrays(arrays, self.position)
        self.store.write(self.position, arrays)

    def stop_if_asked(self) -> None:
        """Ends the run, just saved, if a signal has come.

        Raises:
            Interrupted: then.
        """
        self.request.stop(
            f"stopped: checkpoint saved at {self.position}; --resume goes on from there."
        )


@contextlib.contextmanager
def open_run(
    purpose: str,
    folder: Path,
    recipe: ml_collections.ConfigDict,
    resume: bool,
    pool: Snapshots | None = None,
) -> Iterator[Run]:
    """Locks a run's folder and takes over signals until the block ends; seeds the process.

    Python, NumPy and TensorFlow get the recipe's seed. If the recipe says so, operations are
    deterministic until the block ends.

    Args:
        purpose: `"search"`, `"train"` or `"tune"`.
        folder: of the run; made if need be.
        recipe: resolved.
        resume: go on with the folder's run rather than refuse a folder that holds one, or a file
            that a new run would write over.
        pool: a search's snapshots.

    Raises:
        UserError: if the folder does not hold what it must, is in use, cannot be written, or all
            checkpoints of the run that is resumed are damaged.
        Interrupted: by a signal.
    """
    kept_recipe(folder, purpose, resume)  # what holds no run is not to be made or locked
    settings = process_settings(deterministic=recipe.deterministic)
    with StopRequest() as request, locked(folder) as lock, settings:
        kept = kept_recipe(folder, purpose, resume)
        taken = [name for name in PURPOSES[purpose].results if os.path.lexists(folder / name)]
        if not kept and taken:
            raise UserError(
                f"{folder} holds a {taken[0]} of no run; move it or take another --workdir."
            )
        store = CheckpointStore(folder / "checkpoints", pool)
        for each in (folder, store.folder, *([pool.folder] if pool else [])):
            remove_partial(each)
        keras.utils.set_random_seed(recipe.seed)
        checkpoint = store.read() if kept else None
        yield Run(purpose, folder, recipe, kept, request, lock, store, checkpoint)
