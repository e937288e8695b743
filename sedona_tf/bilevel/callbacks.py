"""Keras callbacks of a search: snapshots, checkpoints, progress, a guard against divergence."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from sedona_tf.bilevel.checkpoints import CheckpointStore, Position, capture
from sedona_tf.bilevel.search_model import SearchModel
from sedona_tf.bilevel.snapshots import SnapshotPool
from sedona_tf.errors import UserError
from sedona_tf.interruption import StopRequest

__all__ = [
    "ArchitectureLog",
    "Checkpoint",
    "NanGuard",
    "PoolFiller",
    "PoolSampler",
    "Progress",
    "log_errors",
]


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


class _StepCallback(keras.callbacks.Callback):
    """Counts a phase's steps from its start, also when the phase is resumed."""

    model: SearchModel

    def __init__(self, phase: str, start: int) -> None:
        super().__init__()
        self.phase = phase
        self.start = start

    def step(self, batch: int) -> int:
        """Steps of the phase that are complete once batch `batch` of this fit is."""
        return self.start + batch + 1


class NanGuard(_StepCallback):
    """Stops on the first metric that is not finite, naming it and the step."""

    def on_train_batch_end(self, batch, logs=None) -> None:
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at {self.phase} step {self.step(batch)}; the last "
                    "checkpoint is kept. A lower search.learning_rate usually helps."
                )


class Progress(_StepCallback):
    """A progress bar with the time left; a line every ten seconds where there is no terminal."""

    def __init__(self, phase: str, start: int, steps: int) -> None:
        super().__init__(phase, start)
        self.steps = steps
        self.bar: tqdm | None = None

    def on_train_begin(self, logs=None) -> None:
        print(f"{self.phase}: tracing the first step, this takes a while", flush=True)
        terminal = sys.stdout.isatty()
        self.bar = tqdm(
            desc=self.phase,
            total=self.steps,
            initial=self.start,
            unit="step",
            file=sys.stdout,
            mininterval=0.2 if terminal else 10.0,
            dynamic_ncols=terminal,
        )

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


class PoolFiller(_StepCallback):
    """Fills the pool over the whole of pretraining."""

    def __init__(self, pool: SnapshotPool, start: int, steps: int) -> None:
        super().__init__("pretraining", start)
        self.pool = pool
        self.steps = steps

    def on_train_begin(self, logs=None) -> None:
        if self.start == 0:
            self.pool.add(self.model.snapshot(), 0)

    def on_train_batch_end(self, batch, logs=None) -> None:
        step = self.step(batch)
        if self.pool.due(step, self.steps):
            self.pool.add(self.model.snapshot(), step)


class PoolSampler(_StepCallback):
    """Gives each search step a random snapshot and puts the trained one back in its place."""

    def __init__(self, pool: SnapshotPool, start: int, seed: int) -> None:
        super().__init__("search", start)
        self.pool = pool
        self.seed = seed

    def on_train_batch_begin(self, batch, logs=None) -> None:
        # A pure function of the step, so that a resumed search draws what it would have drawn.
        rng = np.random.default_rng([self.seed, self.step(batch)])
        self.slot = int(rng.integers(len(self.pool.files)))
        self.model.restore(self.pool.load(self.slot))

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.pool.replace(self.slot, self.model.snapshot(), self.step(batch))


class ArchitectureLog(_StepCallback):
    """Records p, b and the outer loss of every search step.

    TensorBoard gets them too, with histograms of alpha and beta; they cover all cuts in one
    distribution that moves with the steps.
    """

    def __init__(self, start: int, log_dir: Path, history: dict[str, list]) -> None:
        super().__init__("search", start)
        self.history = history
        self.writer = tf.summary.create_file_writer(str(log_dir / "architecture"))

    def on_train_batch_end(self, batch, logs=None) -> None:
        step, history = self.step(batch), self.history
        p = self.model.cut_probability.numpy()
        b = self.model.candidate_weights.numpy()
        history["steps"].append(step)
        history["cut_probability"].append(p)
        history["candidate_weights"].append(b)
        history["outer_loss"].append(float(logs["outer_loss"]))
        # keras.callbacks.TensorBoard turns recording off for all but each tenth step.
        with self.writer.as_default(step=step), tf.summary.record_if(True):
            for unit, value in enumerate(p, 1):
                tf.summary.scalar(f"cut_probability/unit_{unit}", value)
            tf.summary.histogram("candidate_weights", b)
            tf.summary.histogram("alpha", self.model.alpha.value)
            tf.summary.histogram("beta", self.model.beta.value)
            tf.summary.scalar("outer_loss", history["outer_loss"][-1])

    def on_train_end(self, logs=None) -> None:
        self.writer.close()


class Checkpoint(_StepCallback):
    """Saves the search every few steps, and before it stops at a signal."""

    def __init__(
        self,
        phase: str,
        start: int,
        every: int,
        store: CheckpointStore,
        history: dict[str, list],
        request: StopRequest,
    ) -> None:
        super().__init__(phase, start)
        self.every, self.store, self.history, self.request = every, store, history, request

    def on_train_batch_end(self, batch, logs=None) -> None:
        step = self.step(batch)
        if step % self.every == 0 or self.request.signal is not None:
            self.save(step)
        self.stop_if_asked(step)

    def save(self, step: int) -> None:
        """Saves the model, the pool and the history as they are after `step`."""
        self.store.write(Position(self.phase, step), capture(self.model, self.history))

    def stop_if_asked(self, step: int) -> None:
        """Ends the search, just saved, if a signal has come.

        Raises:
            Interrupted: then.
        """
        self.request.stop(
            f"stopped: checkpoint saved at {self.phase} step {step}; --resume goes on from there."
        )
