"""Training the blocks of a decoupling, each on its own loss and device."""

import sedona_tf.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.decoupled.block import Block
from sedona_tf.decoupled.block_optimizer import BlockOptimizer
from sedona_tf.decoupled.cluster import connect
from sedona_tf.decoupled.ensemble import Ensemble, evaluate_exits
from sedona_tf.decoupled.evaluation import Evaluation
from sedona_tf.decoupled.model import SCHEDULES, DecoupledModel, decouple
from sedona_tf.decoupled.placement import assign_devices, make_cpu_devices
from sedona_tf.decoupled.watchdog import Watchdog, guarded

__all__ = [
    "SCHEDULES",
    "Block",
    "BlockOptimizer",
    "DecoupledModel",
    "Ensemble",
    "Evaluation",
    "Watchdog",
    "assign_devices",
    "connect",
    "decouple",
    "evaluate_exits",
    "guarded",
    "make_cpu_devices",
]
