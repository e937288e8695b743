"""Keras callbacks of every long run: checkpoints, progress, a guard against divergence."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import tensorflow as tf
from tqdm import tqdm

from sedona_tf.arrays import Arrays
from sedona_tf.checkpoints import CheckpointStore, Position
from sedona_tf.errors import UserError
from sedona_tf.interruption import StopRequest
from sedona_tf.progress import progress_bar

__all__ = ["Checkpoint", "NanGuard", "Progress", "StepCallback", "log_errors"]


@contextlib.contextmanager
def log_errors(log_dir: Path) -> Iterator[None]:
    """Words TensorFlow's errors about TensorBoard's files, such as a full disk, as `UserError`."""
    try:
        yield
    except tf.errors.OpError as error:
        message = str(error.message).splitlines()[0].rpartition("}} ")[2]
        if str(log_dir) not in message:
            raise
        raise UserError(f"cannot write TensorBoard's files: {message}") from error


class StepCallback(keras.callbacks.Callback):
    """Counts a phase's steps from its start, also when the phase is resumed."""

    def __init__(self, phase: str, start: int) -> None:
        super().__init__()
        self.phase = phase
        self.start = start

    def step(self, batch: int) -> int:
        """Steps of the phase that are complete once batch `batch` of this fit is."""
        return self.start + batch + 1


class NanGuard(StepCallback):
    """Stops on the first metric that is not finite, naming it and the step."""

    def __init__(self, phase: str, start: int, left: str = "the last checkpoint is kept") -> None:
        super().__init__(phase, start)
        self.left = left

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.check(logs or {}, self.step(batch))

    def check(self, metrics: dict[str, float], step: int) -> None:
        """Looks at the metrics of a step.

        Raises:
            UserError: if one is not finite.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at {self.phase} step {step}; {self.left}. "
                    "A lower learning rate usually helps."
                )


class Progress(StepCallback):
    """A progress bar with the time left; a line every ten seconds where there is no terminal."""

    def __init__(self, phase: str, start: int, steps: int) -> None:
        super().__init__(phase, start)
        self.steps = steps
        self.bar: tqdm | None = None

    def on_train_begin(self, logs=None) -> None:
        print(f"{self.phase}: tracing the first step, this takes a while", flush=True)
        self.bar = progress_bar(self.phase, self.steps, "step", self.start)

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.bar is not None:
            self.bar.set_postfix(
                {name: f"{value:.3f}" for name, value in (logs or {}).items()}, refresh=False
            )
            self.bar.update()

    def close(self) -> None:
        """Ends the bar's line; `fit` does not say when it fails or is stopped."""
        if self.bar is not None:
            self.bar.close()


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
    ) -> None:
        super().__init__(phase, start)
        self.every, self.store, self.capture, self.request = every, store, capture, request

    def on_train_begin(self, logs=None) -> None:
        self.request.waits = False

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.request.waits = True
        step = self.step(batch)
        if step % self.every == 0 or self.request.signal is not None:
            self.save(step)
        self.stop_if_asked(step)

    def save(self, step: int) -> None:
        """Saves all that the run needs to go on, as it is after `step`."""
        self.store.write(Position(self.phase, step), self.capture())

    def stop_if_asked(self, step: int) -> None:
        """Ends the run, just saved, if a signal has come.

        Raises:
            Interrupted: then.
        """
        self.request.stop(
            f"stopped: checkpoint saved at {self.phase} step {step}; --resume goes on from there."
        )
