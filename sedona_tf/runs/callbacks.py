"""Keras callbacks of every run: what is counted, shown, saved and logged after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.progress import progress_bar
from sedona_tf.runs.run import Run

__all__ = ["Progress", "RunCallback", "SaveCheckpoints", "Steps", "TensorBoard"]


class RunCallback(keras.callbacks.Callback):
    """A callback of a run. The run's position counts the steps that are done."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class Steps(RunCallback):
    """Counts the run's steps, and ends it if its folder or its numbers are no longer sound.

    It must be the first of the callbacks: the others read the run's position after a step, and
    write only if the folder is still the run's.
    """

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.run.lock.require()
        self.run.position = self.run.position.next()
        self.run.guard.check(logs or {}, self.run.position)


class Progress(RunCallback):
    """A progress bar with the time left; a line every ten seconds where there is no terminal."""

    bar: tqdm | None = None

    def on_train_begin(self, logs=None) -> None:
        phase, done = self.run.position
        logging.info(f"{phase}: tracing the first step, this takes a while")
        self.bar = progress_bar(phase, self.run.steps, "step", done)

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


class SaveCheckpoints(RunCallback):
    """Saves the run every few steps, and before it stops at a signal.

    The first step of a phase is traced, for minutes perhaps, and until it is done there is nothing
    to save: a signal then stops the run at once.
    """

    def on_train_begin(self, logs=None) -> None:
        self.run.request.waits = False

    def on_train_batch_end(self, batch, logs=None) -> None:
        run = self.run
        run.request.waits = True
        every = run.recipe[run.purpose].checkpoint_every
        if run.position.step % every == 0 or run.request.signal is not None:
            run.save()
        run.stop_if_asked()


class TensorBoard(RunCallback):
    """Records the metrics and the learning rate of the run's phase for TensorBoard.

    A step's metrics are recorded as `batch_...`, every few steps and after the last one. When the
    run's history has grown, its newest numbers are recorded as `epoch_...`, at the same step.

    Args:
        run: the run, in the phase that the steps belong to.
        every: steps from record to record.
        rate: the learning rate of a step, given the number of steps before it.
    """

    def __init__(self, run: Run, every: int, rate: Callable[[int], Any]) -> None:
        super().__init__(run)
        self.log = EventLog(run.folder / "logs" / run.position.phase)
        self.every, self.rate = every, rate

    def on_train_batch_end(self, batch, logs=None) -> None:
        step, history, numbers = self.run.position.step, self.run.history, {}
        if step % self.every == 0 or step == self.run.steps:
            numbers = {f"batch_{name}": value for name, value in (logs or {}).items()}
            numbers["batch_learning_rate"] = self.rate(step - 1)
        if step in history.get("step", [])[-1:]:
            newest = {name: values[-1] for name, values in history.items()}
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
