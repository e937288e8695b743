"""The pipelined schedule's memory: what each block left for the next one in the step before.

In one step block k handles the activation that block k-1 wrote in the previous step, so no block
waits for another. It is lockstep training with block k delayed by k steps: the numbers that a
block sees, and so its weights after as many updates, are the same.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ["Batch", "Buffer", "Pipeline", "nothing"]


class Batch(NamedTuple):
    """What a block handles in one step.

    Attributes:
        features: images or activations `(batch, height, width, channels)`.
        labels: as given to `fit`.
        weights: sample weights `(batch,)`, or `()` if there are none.
    """

    features: Any
    labels: Any
    weights: Any

    @property
    def sample_weight(self):
        """The weights as Keras takes them."""
        return None if isinstance(self.weights, tuple) else self.weights


class Buffer:
    """One boundary's batch, or nothing.

    Args:
        batch: specifications of features, labels and weights.
        device: the block's that reads it.
    """

    def __init__(self, batch: Batch, device: str) -> None:
        def empty(spec: tf.TensorSpec) -> tf.Variable:
            shape = (None, *spec.shape[1:])
            return tf.Variable(nothing(spec), shape=shape, trainable=False)

        with tf.device(device):
            self.batch: Batch = tf.nest.map_structure(empty, batch)
            self.full = tf.Variable(False, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """All that it holds."""
        return [*tf.nest.flatten(self.batch), self.full]

    def read(self) -> tuple[Batch, tf.Tensor]:
        """The batch and whether there is one."""
        return tf.nest.map_structure(lambda each: each.read_value(), self.batch), (
            self.full.read_value()
        )

    def write(self, batch: Batch, full: tf.Tensor) -> None:
        """Replaces the batch."""
        for variable, value in zip(
            tf.nest.flatten(self.batch), tf.nest.flatten(batch), strict=True
        ):
            variable.assign(value)
        self.full.assign(full)


@dataclasses.dataclass
class Pipeline:
    """What batches of one form go through.

    Attributes:
        form: specifications of images, labels and weights, of any number.
        buffers: at the cuts, from the input up.
        step: one step of all blocks, see `DecoupledModel`; None until it is made.
    """

    form: Batch
    buffers: list[Buffer]
    step: Any = None

    def empty(self) -> Batch:
        """A batch of no images."""
        return tf.nest.map_structure(nothing, self.form)


def nothing(spec: tf.TensorSpec) -> tf.Tensor:
    """A tensor of no samples; sizes that are not known are 0."""
    return tf.zeros((0, *(size or 0 for size in spec.shape[1:])), spec.dtype)
