"""Keras callbacks of every long run: checkpoints, progress, a guard against divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from sedona_tf.errors import UserError
from sedona_tf.files import Lock
from sedona_tf.runs.arrays import Arrays
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.progress import progress_bar
from sedona_tf.runs.signals import StopRequest

__all__ = [
    "Checkpoint",
    "FolderGuard",
    "NanGuard",
    "Progress",
    "StepCallback",
    "TensorBoard",
    "first_not_finite",
]

OUTER_LOSS = ("outer_loss", "history/outer_loss")
"""Names that may be NaN, as metric and as saved: a step with such an outer loss is skipped."""


class StepCallback(keras.callbacks.Callback):
    """Counts a phase's steps from its start, also when the phase is resumed."""

    def __init__(self, phase: str, start: int) -> None:
        super().__init__()
        self.phase = phase
        self.start = start

    def step(self, batch: int) -> int:
        """Steps of the phase that are complete once batch `batch` of this fit is."""
        return self.start + batch + 1


class TensorBoard(StepCallback):
    """Records the metrics and the learning rate for TensorBoard.

    A step's metrics are recorded as `batch_...`, every few steps and after the last one. When the
    run's history has grown, its newest numbers are recorded as `epoch_...`, at the same step.

    Args:
        log: where to write.
        phase: the phase that the steps belong to.
        start: steps of the phase that are done; a resumed run's curves go on there.
        steps: of the whole phase.
        every: steps from record to record.
        rate: the learning rate of a step, given the number of steps before it.
        history: name to numbers, with `step`; an earlier callback adds to it.
    """

    def __init__(
        self,
        log: EventLog,
        phase: str,
        start: int,
        steps: int,
        every: int,
        rate: Callable[[int], Any],
        history: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        super().__init__(phase, start)
        self.log, self.steps, self.every, self.rate = log, steps, every, rate
        self.history = {} if history is None else history

    def on_train_batch_end(self, batch, logs=None) -> None:
        step = self.step(batch)
        numbers = {}
        if step % self.every == 0 or step == self.steps:
            numbers = {f"batch_{name}": value for name, value in (logs or {}).items()}
            numbers["batch_learning_rate"] = self.rate(step - 1)
        if step in self.history.get("step", [])[-1:]:
            newest = {name: values[-1] for name, values in self.history.items()}
            newest |= {"learning_rate": self.rate(step - 1)}
            places = ("step", "epoch", "val_step", "val_epoch")
            numbers |= {f"epoch_{name}": v for name, v in newest.items() if name not in places}
        if numbers:
            self.log.write(step, lambda: _write_scalars(numbers))

    def on_train_end(self, logs=None) -> None:
        self.log.close()


def _write_scalars(numbers: Mapping[str, Any]) -> None:
    for name, value in numbers.items():
        tf.summary.scalar(name, np.float32(value))


class FolderGuard(keras.callbacks.Callback):
    """Stops when the run's folder was deleted or replaced, before anything else is written."""

    def __init__(self, lock: Lock) -> None:
        super().__init__()
        self.lock = lock

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.lock.require()


class NanGuard(StepCallback):
    """Stops on the first number that is not finite, naming it, the step and the part at fault.

    Args:
        phase: that the steps belong to.
        start: steps of it that are done.
        variables: name of a part of the network to all its variables, from the input up, as
            `variables_by_part` of the models gives them.
        store: of the run's checkpoints, whose newest the message names; None if there are none.
    """

    def __init__(
        self,
        phase: str,
        start: int,
        variables: Mapping[str, Sequence[keras.Variable]],
        store: CheckpointStore | None = None,
    ) -> None:
        super().__init__(phase, start)
        self.variables = variables
        self.store = store

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.check(logs or {}, self.step(batch))

    def check(self, metrics: Mapping[str, float], step: int) -> None:
        """Looks at the metrics of a step.

        Raises:
            UserError: if one is not finite.
        """
        for name, value in metrics.items():
            if name not in OUTER_LOSS and not math.isfinite(value):
                self._stop(f"{name} is {value} at {self.phase} step {step}")

    def check_arrays(self, arrays: Arrays, step: int) -> None:
        """Looks at what is to be saved: the update of a step may spoil it after its last metric.

        Raises:
            UserError: if anything in it is not finite.
        """
        for name, array in arrays.items():
            floating = array.dtype.kind in "fV"  # V: bfloat16
            if floating and name not in OUTER_LOSS and not np.isfinite(array).all():
                kind = name.removeprefix("model/").partition("/")[0]
                self._stop(f"{kind} not finite after {self.phase} step {step}")

    def _stop(self, problem: str) -> NoReturn:
        part = first_not_finite(self.variables)
        where = f"the first part with such numbers is {part}; " if part else ""
        if self.store is None:
            left = "nothing of it is kept"
        elif self.store.newest is None:
            left = "there is no checkpoint yet"
        else:
            left = f"the last checkpoint ({self.store.newest}) is kept"
        raise UserError(f"{problem}; {where}{left}. A lower learning rate usually helps.")


def first_not_finite(variables: Mapping[str, Sequence[keras.Variable]]) -> str | None:
    """The lowest part of a network that computed something that is not finite.

    The weights do not tell: the gradient of a bad loss spoils all of them on its way down, within
    the same step. Moving statistics do, which are made on the way up, and so do the weights of a
    part that has none while all below it computed well.

    Args:
        variables: name of a part to its variables, from the input up.

    Returns:
        The name; None if all variables are finite.

    Example: the first unit's weights were spoilt from above.
        >>> def part(weight, *statistics):
        ...     variables = [keras.Variable(weight)]
        ...     return [*variables, *(keras.Variable(s, trainable=False) for s in statistics)]
        >>> first_not_finite({"unit 1": part(np.nan, 1.0), "unit 2": part(np.nan, np.inf)})
        'unit 2'
    """
    found: list[tuple[int, str]] = []
    for name, group in variables.items():
        floating = [v for v in group if "float" in keras.backend.standardize_dtype(v.dtype)]
        statistics = [v for v in floating if not v.trainable]
        if _spoilt(statistics):
            found.append((0, name))
        elif _spoilt(floating):
            found.append((2 if statistics else 1, name))
    return min(found, key=lambda each: each[0])[1] if found else None


def _spoilt(variables: Sequence[keras.Variable]) -> bool:
    return not all(np.isfinite(variable.numpy()).all() for variable in variables)


class Progress(StepCallback):
    """A progress bar with the time left; a line every ten seconds where there is no terminal."""

    def __init__(self, phase: str, start: int, steps: int) -> None:
        super().__init__(phase, start)
        self.steps = steps
        self.bar: tqdm | None = None

    def on_train_begin(self, logs=None) -> None:
        logging.info(f"{self.phase}: tracing the first step, this takes a while")
        self.bar = progress_bar(self.phase, self.steps, "step", self.start)

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.bar is not None:
            self.bar.set_postfix(_head_first(logs or {}), refresh=False)
            self.bar.update()

    def close(self) -> None:
        """Ends the bar's line; `fit` does not say when it fails or is stopped."""
        if self.bar is not None:
            self.bar.close()


def _head_first(logs: Mapping[str, float]) -> dict[str, str]:
    """Metrics for the bar; a narrow terminal shows only the first ones."""
    names = sorted(logs, key=lambda name: (name not in ("loss", "outer_loss"), "block_" in name))
    return {name: f"{logs[name]:.3f}" for name in names}


class Checkpoint(StepCallback):
    """Saves the run every few steps, and before it stops at a signal.

    The first step of a phase is traced, for minutes perhaps, and until it is done there is nothing
    to save: a signal then stops the run at once.
    """

    def __init__(
        self,
        phase: str,
        start: int,
        every: int,
        store: CheckpointStore,
        capture: Callable[[], Arrays],
        request: StopRequest,
        guard: NanGuard,
        lock: Lock,
    ) -> None:
        super().__init__(phase, start)
        self.every, self.store, self.capture, self.request = every, store, capture, request
        self.guard = guard
        self.lock = lock

    def on_train_begin(self, logs=None) -> None:
        self.request.waits = False

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.request.waits = True
        step = self.step(batch)
        if step % self.every == 0 or self.request.signal is not None:
            self.save(step)
        self.stop_if_asked(step)

    def save(self, step: int) -> None:
        """Saves all that the run needs to go on, as it is after `step`.

        Raises:
            UserError: if something in it is not finite, it cannot be written, or the folder is
                another by now; the checkpoints that there are stay.
        """
        self.lock.require()
        arrays = self.capture()
        self.guard.check_arrays(arrays, step)
        self.store.write(Position(self.phase, step), arrays)

    def stop_if_asked(self, step: int) -> None:
        """Ends the run, just saved, if a signal has come.

        Raises:
            Interrupted: then.
        """
        self.request.stop(
            f"stopped: checkpoint saved at {self.phase} step {step}; --resume goes on from there."
        )
