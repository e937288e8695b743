"""Keras callbacks of a search: the pool of snapshots, and a log of the architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from sedona_tf.errors import dispensable
from sedona_tf.report.figures import heat_map
from sedona_tf.runs.callbacks import NanGuard, StepCallback
from sedona_tf.runs.event_log import EventLog
from sedona_tf.search.pool import SnapshotPool
from sedona_tf.search.search_model import SearchModel

__all__ = ["ArchitectureLog", "PoolFiller", "PoolSampler", "skipped_steps"]

IMAGES = 20
"""Heat maps that TensorBoard gets of a search, or one more."""


class PoolFiller(StepCallback):
    """Fills the pool over the whole of pretraining."""

    model: SearchModel

    def __init__(self, pool: SnapshotPool, start: int, steps: int, guard: NanGuard) -> None:
        super().__init__("pretraining", start)
        self.pool = pool
        self.steps = steps
        self.guard = guard

    def on_train_batch_end(self, batch, logs=None) -> None:
        step = self.step(batch)
        if self.pool.due(step, self.steps):
            snapshot = self.model.snapshot()
            self.guard.check_arrays(snapshot, step)
            self.pool.add(snapshot, step)


class PoolSampler(StepCallback):
    """Gives each search step a random snapshot and puts the trained one back in its place."""

    model: SearchModel

    def __init__(self, pool: SnapshotPool, start: int, seed: int, guard: NanGuard) -> None:
        super().__init__("search", start)
        self.pool = pool
        self.seed = seed
        self.guard = guard

    def on_train_batch_begin(self, batch, logs=None) -> None:
        # A pure function of the step, so that a resumed search draws what it would have drawn.
        rng = np.random.default_rng([self.seed, self.step(batch)])
        self.slot = int(rng.integers(len(self.pool.files)))
        self.model.restore(self.pool.load(self.slot))

    def on_train_batch_end(self, batch, logs=None) -> None:
        snapshot, step = self.model.snapshot(), self.step(batch)
        self.guard.check_arrays(snapshot, step)
        self.pool.replace(self.slot, snapshot, step)


class ArchitectureLog(StepCallback):
    """Records p, b and the outer loss of every search step.

    TensorBoard gets them too, with histograms of alpha and beta, which cover all cuts in one
    distribution that moves with the steps, and the heat map of p some `IMAGES` times a search
    and at its end.

    Args:
        start: steps that are done.
        steps: of the whole search.
        log: of TensorBoard.
        history: gets the numbers of every step.
    """

    model: SearchModel

    def __init__(self, start: int, steps: int, log: EventLog, history: dict[str, list]) -> None:
        super().__init__("search", start)
        self.steps = steps
        self.history = history
        self.log = log

    def on_train_batch_end(self, batch, logs=None) -> None:
        step, history = self.step(batch), self.history
        p = self.model.cut_probability.numpy()
        b = self.model.candidate_weights.numpy()
        history["steps"].append(step)
        history["cut_probability"].append(p)
        history["candidate_weights"].append(b)
        history["outer_loss"].append(float(logs["outer_loss"]))
        if not math.isfinite(logs["outer_loss"]):
            logging.warning(
                f"search step {step} skipped: its outer loss or the gradient is not finite, so "
                f"alpha and beta stay ({skipped_steps(history)} of {len(history['steps'])} steps)"
            )
        image = None
        if step % math.ceil(self.steps / IMAGES) == 0 or step == self.steps:
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
