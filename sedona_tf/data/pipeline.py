"""Batches that are functions of the seed, the stream and the step, so that runs resume exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sedona_tf.data.preprocessing import Normalization, augment
from sedona_tf.data.sources import Source
from sedona_tf.data.split import bilevel_split
from sedona_tf.errors import UserError

__all__ = ["SearchData", "TrainingData"]

_TRAINING, _INNER, _OUTER = 0, 1, 2  # streams of random numbers


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without TensorFlow's autotuning: its thread sleeps up to a minute when a data set ends."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class TrainingData:
    """A source in two parts, one to train on and one held out, as batches.

    The stream of training batches visits every example of its part once per epoch, in an order
    that changes with the epoch; epochs follow each other without a gap, so a batch may straddle
    two. Nothing is remembered between steps: starting at step k gives what a run from 0 would
    give there.
    """

    def __init__(
        self,
        source: Source,
        *,
        fraction: float = 0.1,
        seed: int = 0,
        batch_size: int = 64,
        pad: int = 4,
        flip: bool = True,
        test: Callable[[], Source] | None = None,
    ) -> None:
        """Splits the source and takes the normalisation from its training part.

        Args:
            source: the training split of the data; copied once, as it is stored.
            fraction: of each class that goes to the validation part.
            seed: of the split, the orders and the augmentation, in `[0, 2**31)`.
            batch_size: B, of training.
            pad: pixels of zero padding before the random crop of training images.
            flip: mirror training images at random.
            test: reads the test split; called by `test` and nothing else.

        Raises:
            UserError: the batch is empty or larger than its part, or `fraction`, `seed` or `pad`
                is out of range.
        """
        if pad < 0:
            raise UserError(f"pad must not be negative. Received: {pad}.")
        if not 0 <= seed < 2**31:
            raise UserError(f"seed must be in [0, 2**31). Received: {seed}.")
        self.train_indices, self.validation_indices = bilevel_split(source.labels, fraction, seed)
        self.name = source.name
        self._require("batch_size", batch_size, self.train_indices)
        self.normalization = Normalization.fit(source.images, self.train_indices)
        self.num_classes = source.num_classes
        self.batch_size = batch_size
        self._shape = tuple(int(size) for size in source.images.shape[1:])
        self._seed, self._pad, self._flip, self._read_test = seed, pad, flip, test
        with tf.device("/CPU:0"):
            self._images = tf.constant(source.images)
            self._labels = tf.constant(source.labels)
            self._train = tf.constant(self.train_indices, tf.int64)
            self._validation = tf.constant(self.validation_indices, tf.int64)

    def _require(self, name: str, size: int, part: np.ndarray) -> None:
        if size < 1:
            raise UserError(f"{name} must be positive. Received: {size}.")
        if size > len(part):
            raise UserError(
                f"{name} {size} is more than the {len(part)} examples of its part of '{self.name}'."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)`."""
        return self._shape

    @property
    def steps_per_epoch(self) -> int:
        """Training batches that hold about as many images as the training part, at least 1."""
        return max(round(len(self.train_indices) / self.batch_size), 1)

    def training(self, start_step: int, steps: int) -> tf.data.Dataset:
        """Batches `(images (B, H, W, C) float32, labels (B,) int32)` of the training part.

        Args:
            start_step: the first step, from 0.
            steps: how many.

        Raises:
            UserError: `start_step` is negative or `steps` is not positive.
        """
        return self._dataset(
            start_step, steps, lambda step: self._training_batch(_TRAINING, step, 1)
        )

    def validation(self, batch_size: int = 500) -> tf.data.Dataset:
        """The held-out part once, as batches like the training's but not augmented."""
        images = tf.gather(self._images, self._validation)
        return self._once(images, tf.gather(self._labels, self._validation), batch_size)

    def test(self, batch_size: int = 500) -> tf.data.Dataset:
        """The test split once, as `validation`; reads it now, for the first time.

        Raises:
            UserError: if there is none.
        """
        if self._read_test is None:
            raise UserError(f"'{self.name}' has no test split here.")
        source = self._read_test()
        return self._once(tf.constant(source.images), tf.constant(source.labels), batch_size)

    def _once(self, images: tf.Tensor, labels: tf.Tensor, batch_size: int) -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
        return _untuned(dataset.map(lambda x, y: (self.normalization(x), y)).prefetch(1))

    def _training_batch(
        self, stream: int, step: tf.Tensor, batches: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = self._choose(stream, self._train, step, batches * self.batch_size)
        key = tf.random.experimental.stateless_fold_in(
            tf.constant([self._seed, stream], tf.int64), step
        )
        images = augment(tf.gather(self._images, chosen), key, self._pad, self._flip)
        return self.normalization(images), tf.gather(self._labels, chosen)

    def _choose(self, stream: int, part: tf.Tensor, step: tf.Tensor, count: int) -> tf.Tensor:
        """The source's indices `(count,)` of the stream's examples at a step."""
        size = part.shape[0]
        index = step * count + tf.range(count, dtype=tf.int64)
        epoch = index // size
        seeds = [tf.fill((count,), np.int64(value)) for value in (self._seed, stream)]
        # Not tf.random.experimental.index_shuffle: in TensorFlow 2.21 it pads one seed per batch
        # to the op's three integers correctly, but not one seed per index.
        position = tf.raw_ops.RandomIndexShuffle(
            index=index % size,
            seed=tf.stack([*seeds, epoch], axis=1),
            max_index=tf.constant(size - 1, tf.int64),
            rounds=4,
        )
        return tf.gather(part, position)

    def _dataset(
        self, start_step: int, steps: int, element: Callable[[tf.Tensor], object]
    ) -> tf.data.Dataset:
        if start_step < 0:
            raise UserError(f"start_step must not be negative. Received: {start_step}.")
        if steps < 1:
            raise UserError(f"steps must be positive. Received: {steps}.")
        dataset = tf.data.Dataset.range(start_step, start_step + steps)
        dataset = dataset.map(element, num_parallel_calls=2, deterministic=True)
        return _untuned(dataset.prefetch(2))


class SearchData(TrainingData):
    """Training data that also give what a step of the search needs: inner and outer batches."""

    def __init__(
        self,
        source: Source,
        *,
        validation_batch_size: int = 64,
        inner_steps: int = 1,
        fraction: float = 0.4,
        **kwargs: Any,
    ) -> None:
        """As `TrainingData`.

        Args:
            source: see `TrainingData`.
            validation_batch_size: Bv, of the outer loss.
            inner_steps: T.
            fraction: of each class that goes to the outer validation part.
            **kwargs: see `TrainingData`.

        Raises:
            UserError: as there, also for these sizes.
        """
        super().__init__(source, fraction=fraction, **kwargs)
        self._require("validation_batch_size", validation_batch_size, self.validation_indices)
        if inner_steps < 1:
            raise UserError(f"inner_steps must be positive. Received: {inner_steps}.")
        self._validation_batch_size = validation_batch_size
        self._inner_steps = inner_steps

    def search(self, start_step: int, steps: int) -> tf.data.Dataset:
        """What one step of the search needs, as a dictionary.

        Args:
            start_step: the first step, from 0.
            steps: how many.

        Returns:
            Elements `{"train": (images (T + 1, B, H, W, C), labels (T + 1, B)), "validation":
            (images (Bv, H, W, C), labels (Bv,))}`: the inner steps' batches, then the ordinary
            step's; validation images are normalised but not augmented.

        Raises:
            UserError: `start_step` is negative or `steps` is not positive.
        """
        leading = (self._inner_steps + 1, self.batch_size)

        def element(step: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
            images, labels = self._training_batch(_INNER, step, leading[0])
            chosen = self._choose(_OUTER, self._validation, step, self._validation_batch_size)
            return {
                "train": (tf.reshape(images, leading + self._shape), tf.reshape(labels, leading)),
                "validation": (
                    self.normalization(tf.gather(self._images, chosen)),
                    tf.gather(self._labels, chosen),
                ),
            }

        return self._dataset(start_step, steps, element)
