"""Training the blocks of a decoupling, each on its own loss and device."""

from sedona_tf.decoupled.block import Block
from sedona_tf.decoupled.block_optimizer import BlockOptimizer
from sedona_tf.decoupled.model import SCHEDULES, DecoupledModel, decouple
from sedona_tf.decoupled.placement import assign_devices

__all__ = ["SCHEDULES", "Block", "BlockOptimizer", "DecoupledModel", "assign_devices", "decouple"]
