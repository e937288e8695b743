"""The two schedules: which batch each block handles in a step, and what waits for what.

- Lockstep: every block handles the same batch.
- Pipelined: block k handles the activation that block k-1 wrote into a buffer one step before, so
  no block waits for another. It is lockstep training with block k delayed by k steps: the numbers
  that a block sees, and so its weights after as many updates, are the same.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from sedona_tf.train.block import Block

__all__ = ["SCHEDULES", "Batch", "Buffer", "Form", "Learn", "Pipelined", "lockstep_step"]

SCHEDULES = ("pipelined", "lockstep")


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
            return tf.Variable(_no_samples(spec), shape=shape, trainable=False)

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


Learn = Callable[[int, Batch], tuple[tf.Tensor, list[tf.Tensor]]]
"""Updates a block, given by its index, on a batch; gives its features and its gradients."""


def lockstep_step(blocks: Sequence[Block], learn: Learn, batch: Batch) -> None:
    """One step of all blocks, on one batch.

    Args:
        blocks: from the input up.
        learn: updates one of them.
        batch: for the first block.
    """
    for index, block in enumerate(blocks):
        with tf.device(block.device):
            features, gradients = learn(index, batch)
        if index + 1 < len(blocks) and blocks[index + 1].device == block.device:
            # On one device, a block's activations go before the next one's come.
            with tf.control_dependencies(tf.nest.flatten(gradients)):
                features = tf.identity(features)
        batch = batch._replace(features=features)


@dataclasses.dataclass
class Form:
    """What batches of one form (shapes and types) go through.

    Attributes:
        batch: specifications of images, labels and weights, of any number.
        buffers: at the cuts, from the input up.
        step: takes a batch, whether it is one, and true once it is there; None until it is made.
    """

    batch: Batch
    buffers: list[Buffer]
    step: Any = None


class Pipelined:
    """The pipelined schedule of K blocks, with its buffers.

    Args:
        blocks: from the input up.
        learn: updates one of them.

    Attributes:
        forms: of the batches met so far. Their buffers stay, since traced functions refer to them.
    """

    def __init__(self, blocks: Sequence[Block], learn: Learn) -> None:
        self.blocks = blocks
        self.learn = learn
        self.forms: list[Form] = []
        self._eagerly = False

    def renew(self, run_eagerly: bool) -> None:
        """Has every step traced anew, since optimizers are others, or run eagerly."""
        self._eagerly = run_eagerly
        for form in self.forms:
            form.step = None

    def prepare(self, batch: Batch) -> Form:
        """The buffers and the step's function for the form of a batch.

        They are made when the form is first met, after `drain`. Forms that alternate without a
        `drain` are each delayed on their own.

        Args:
            batch: tensors or specifications.

        Returns:
            The same `Form` for the same shapes and types.
        """

        def specify(tensor) -> tf.TensorSpec:
            return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)

        wanted = tf.nest.map_structure(specify, batch)
        form = next((each for each in self.forms if each.batch == wanted), None)
        if form is None:
            self.drain()
            form = Form(wanted, self._buffers(wanted))
            self.forms.append(form)
        if form.step is None:
            form.step = functools.partial(self.step, form.buffers)
            if not self._eagerly:
                signature = [form.batch, *[tf.TensorSpec((), tf.bool)] * 2]
                form.step = tf.function(form.step, input_signature=signature, autograph=False)
        return form

    def step(
        self, buffers: Sequence[Buffer], batch: Batch, is_batch: tf.Tensor, there: tf.Tensor
    ) -> None:
        """One step of all blocks.

        Args:
            buffers: at the cuts.
            batch: for the first block.
            is_batch: whether there is one for the first block.
            there: true, once the batch is there.
        """
        with tf.control_dependencies([tf.identity(there)]):
            work = [(batch, is_batch), *(buffer.read() for buffer in buffers)]
            for index, (block, (batch, full)) in enumerate(zip(self.blocks, work, strict=True)):
                with tf.device(block.device):

                    def learn(index=index, batch=batch):
                        return self.learn(index, batch)[0]

                    none = functools.partial(_no_samples, _output_of(block))
                    features = tf.cond(full, learn, none)
                    if index < len(buffers):
                        buffers[index].write(batch._replace(features=features), full)

    def drain(self) -> None:
        """Lets every block handle what is left in the buffers; nothing new comes in."""
        for form in self.forms:
            while any(bool(buffer.full.numpy()) for buffer in form.buffers):
                empty = tf.nest.map_structure(_no_samples, form.batch)
                self.prepare(form.batch).step(empty, tf.constant(False), tf.constant(True))

    def _buffers(self, batch: Batch) -> list[Buffer]:
        """One at each cut, on the device of the block that reads it."""
        return [
            Buffer(batch._replace(features=_output_of(below)), above.device)
            for below, above in itertools.pairwise(self.blocks)
        ]


def _output_of(block: Block) -> tf.TensorSpec:
    unit = block.units[-1]
    return tf.TensorSpec(unit.output_shape, unit.outputs[0].dtype)


def _no_samples(spec: tf.TensorSpec) -> tf.Tensor:
    """A tensor of no samples; sizes that are not known are 0."""
    return tf.zeros((0, *(size or 0 for size in spec.shape[1:])), spec.dtype)
