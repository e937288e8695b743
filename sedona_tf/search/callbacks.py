"""Keras callbacks of a search: the pool of snapshots, and a log of the architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from sedona_tf.errors import dispensable
from sedona_tf.report.figures import heat_map
from sedona_tf.runs.callbacks import RunCallback
from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.run import Run
from sedona_tf.runs.state import capture, restore
from sedona_tf.search.pool import SnapshotPool
from sedona_tf.search.search_model import SearchModel

__all__ = ["ArchitectureLog", "PoolFiller", "PoolSampler", "skipped_steps"]

HEAT_MAPS = 20
"""Heat maps that TensorBoard gets of a search, or one more."""


class PoolCallback(RunCallback):
    """What fills the pool or draws from it."""

    model: SearchModel

    def __init__(self, run: Run, pool: SnapshotPool) -> None:
        super().__init__(run)
        self.pool = pool

    def snapshot(self) -> dict[str, np.ndarray]:
        """The model's weights, none of which may be other than finite."""
        arrays = capture(self.model.weight_variables())
        self.run.guard.check_arrays(arrays, self.run.position)
        return arrays


class PoolFiller(PoolCallback):
    """Fills the pool over the whole of pretraining."""

    def on_train_batch_end(self, batch, logs=None) -> None:
        step = self.run.position.step
        if self.pool.due(step, self.run.steps):
            self.pool.add(self.snapshot(), step)


class PoolSampler(PoolCallback):
    """Gives each search step a random snapshot and puts the trained one back in its place."""

    def on_train_batch_begin(self, batch, logs=None) -> None:
        # A pure function of the step, so that a resumed search draws what it would have drawn.
        rng = np.random.default_rng([self.run.recipe.seed, self.run.position.step + 1])
        self.slot = int(rng.integers(len(self.pool.files)))
        restore(self.pool.load(self.slot), self.model.weight_variables())

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.pool.replace(self.slot, self.snapshot(), self.run.position.step)


class ArchitectureLog(RunCallback):
    """Records p, b and the outer loss of every search step in the run's history.

    TensorBoard gets them too, with histograms of alpha and beta, which cover all cuts in one
    distribution that moves with the steps, and the heat map of p some `HEAT_MAPS` times a search
    and at its end.
    """

    model: SearchModel

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.log = EventLog(run.folder / "logs" / "architecture")

    def on_train_batch_end(self, batch, logs=None) -> None:
        step, history = self.run.position.step, self.run.history
        p = self.model.cut_probability.numpy()
        b = self.model.candidate_weights.numpy()
        for name, value in {
            "steps": step,
            "cut_probability": p.tolist(),
            "candidate_weights": b.tolist(),
            "outer_loss": float(logs["outer_loss"]),
        }.items():
            history.setdefault(name, []).append(value)
        if not math.isfinite(logs["outer_loss"]):
            logging.warning(
                f"search step {step} skipped: its outer loss or the gradient is not finite, so "
                f"alpha and beta stay ({skipped_steps(history)} of {len(history['steps'])} steps)"
            )
        image = None
        if step % math.ceil(self.run.steps / HEAT_MAPS) == 0 or step == self.run.steps:
            with dispensable("the heat map for TensorBoard"):
                image = heat_map(history["steps"], history["cut_probability"])

        def record() -> None:
            for unit, value in enumerate(p, 1):
                tf.summary.scalar(f"cut_probability/unit_{unit}", value)
            tf.summary.histogram("candidate_weights", b)
            tf.summary.histogram("alpha", self.model.alpha.value)
            tf.summary.histogram("beta", self.model.beta.value)
            tf.summary.scalar("outer_loss", np.float32(logs["outer_loss"]))
            if image is not None:
                tf.summary.image("cut_probability", image[None])

        self.log.write(step, record)

    def on_train_end(self, logs=None) -> None:
        self.log.close()


def skipped_steps(history: Mapping[str, Sequence]) -> int:
    """How many steps of a search left alpha and beta as they were; see `SearchModel`."""
    return int(np.sum(~np.isfinite(history["outer_loss"])))
