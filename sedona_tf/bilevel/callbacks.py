"""Keras callbacks of a search: snapshots, checkpoints, progress, a guard against divergence."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from sedona_tf.bilevel.search_model import SearchModel
from sedona_tf.bilevel.snapshots import SnapshotPool, read_arrays, write_arrays
from sedona_tf.errors import UserError

__all__ = ["ArchitectureLog", "Checkpoint", "NanGuard", "PoolFiller", "PoolSampler", "Progress"]


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
        self.bar.set_postfix(
            {name: f"{value:.3f}" for name, value in (logs or {}).items()}, refresh=False
        )
        self.bar.update()

    def on_train_end(self, logs=None) -> None:
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
    """Records p, b and the outer loss of every search step; writes them to TensorBoard too."""

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
        with self.writer.as_default(step=step):
            for unit, value in enumerate(p, 1):
                tf.summary.scalar(f"cut_probability/unit_{unit}", value)
            tf.summary.histogram("candidate_weights", b)
            tf.summary.scalar("outer_loss", history["outer_loss"][-1])

    def on_train_end(self, logs=None) -> None:
        self.writer.close()


class Checkpoint(_StepCallback):
    """Saves all that a search needs to go on exactly as if it had not been interrupted.

    One file, replaced whole: weights, velocity, alpha, beta, the architecture's optimizer, the
    pool's list of files, the history and where the search stands.
    """

    def __init__(
        self, phase: str, start: int, path: Path, every: int, pool: SnapshotPool, history: dict
    ) -> None:
        super().__init__(phase, start)
        self.path, self.every, self.pool, self.history = path, every, pool, history

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.step(batch) % self.every == 0:
            self.save(self.step(batch))

    def save(self, step: int) -> None:
        """Writes the checkpoint, then deletes snapshots that nothing refers to any more."""
        position = {"phase": self.phase, "step": step, "files": self.pool.files}
        optimizer = [variable.numpy() for variable in self.model.optimizer.variables]
        write_arrays(
            self.path,
            {
                "position": np.frombuffer(json.dumps(position).encode(), np.uint8),
                "alpha": self.model.alpha.numpy(),
                "beta": self.model.beta.numpy(),
                **{f"optimizer_{index}": value for index, value in enumerate(optimizer)},
                **{f"model/{name}": value for name, value in self.model.snapshot().items()},
                **{f"history/{name}": np.array(value) for name, value in self.history.items()},
            },
        )
        self.pool.collect()

    @staticmethod
    def load(path: Path, model: SearchModel, pool: SnapshotPool, history: dict) -> tuple[str, int]:
        """Restores a checkpoint; returns its phase and the number of steps completed in it.

        Raises:
            UserError: if it is missing, damaged or of another model.
        """
        arrays = read_arrays(path)
        try:
            position = json.loads(arrays["position"].tobytes())
            model.alpha.assign(arrays["alpha"])
            model.beta.assign(arrays["beta"])
            for index, variable in enumerate(model.optimizer.variables):
                variable.assign(arrays[f"optimizer_{index}"])
            model.restore(
                {
                    name.removeprefix("model/"): value
                    for name, value in arrays.items()
                    if name.startswith("model/")
                }
            )
        except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise UserError(f"{path} is not a checkpoint of this search: {error}") from error
        for name in history:
            history[name][:] = list(arrays[f"history/{name}"])
        pool.files[:] = position["files"]
        model.step_in_phase.assign(position["step"])
        return position["phase"], position["step"]
