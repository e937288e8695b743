"""Batches that are functions of the seed, the stream and the step, so that runs resume exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import tensorflow as tf

from sedona_tf.data.preprocessing import Normalization, augment
from sedona_tf.data.record import DataRecord
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


class _Split(NamedTuple):
    """A split in the host's memory, also where there is a GPU."""

    images: tf.Tensor
    labels: tf.Tensor
    digest: str

    @classmethod
    def of(cls, source: Source) -> _Split:
        with tf.device("/CPU:0"):
            return cls(tf.constant(source.images), tf.constant(source.labels), source.digest)


def _require_size(name: str, size: int, part: np.ndarray) -> None:
    if size < 1:
        raise UserError(f"{name} must be positive. Received: {size}.")
    if size > len(part):
        raise UserError(f"{name} {size} is more than the {len(part)} examples of its part.")


def _require_same(name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise UserError(
            f"the {name} split is not the one that the run was started with: other images, other "
            "labels or another order. Bring it back, or start another run."
        )


class TrainingData:
    """A source in two parts, one to train on and one held out, as batches.

    The stream of training batches visits every example of its part once per epoch, in an order
    that changes with the epoch; epochs follow each other without a gap, so a batch may straddle
    two. Nothing is remembered between steps: starting at step k gives what a run from 0 would
    give there.

    Attributes:
        record: the record of the data that a run keeps.
        batch_size: B, of training.
    """

    def __init__(
        self,
        source: Source | Callable[[], Source],
        *,
        fraction: float = 0.1,
        seed: int = 0,
        batch_size: int = 64,
        pad: int = 4,
        flip: bool = True,
        test: Callable[[], Source] | None = None,
        record: DataRecord | None = None,
    ) -> None:
        """Splits the source and takes the normalisation from its training part.

        Args:
            source: the training split, or a function that reads it; copied once, as it is stored.
            fraction: of each class that goes to the validation part.
            seed: of the split, the orders and the augmentation, in `[0, 2**31)`.
            batch_size: B, of training.
            pad: pixels of zero padding before the random crop of training images.
            flip: mirror training images at random.
            test: reads the test split, if there is one.
            record: of a run that is resumed or used. Each split is then read on first use and must
                be the run's. The normalisation is the run's. If None, both splits are read now.

        Raises:
            UserError: the batch is empty or larger than its part, `fraction`, `seed` or `pad` is
                out of range, or a test image has another shape or class than the training
                images. Every method: the split that it reads is not the run's.
        """
        if pad < 0:
            raise UserError(f"pad must not be negative. Received: {pad}.")
        if not 0 <= seed < 2**31:
            raise UserError(f"seed must be in [0, 2**31). Received: {seed}.")
        self._read_training = source if callable(source) else lambda: source
        self._read_test = test
        self._fraction, self._seed, self._pad, self._flip = fraction, seed, pad, flip
        self.batch_size = batch_size
        if record is not None:
            self.record = record
            return
        self._training, self.record = self._load()
        if test is not None:
            self.record = msgspec.structs.replace(self.record, test=self._test.digest)

    def _load(self) -> tuple[_Split, DataRecord]:
        """Reads the training split; its record does not have the test split yet."""
        source = self._read_training()
        train, _ = bilevel_split(source.labels, self._fraction, self._seed)
        _require_size("batch_size", self.batch_size, train)
        record = DataRecord(
            training=source.digest,
            test=None,
            input_shape=tuple(map(int, source.images.shape[1:])),
            num_classes=source.num_classes,
            training_images=len(train),
            normalization=Normalization.fit(source.images, train),
        )
        return _Split.of(source), record

    @functools.cached_property
    def _training(self) -> _Split:
        split, found = self._load()
        _require_same("training", found.training, self.record.training)
        return split

    @functools.cached_property
    def _test(self) -> _Split:
        if self._read_test is None:
            raise UserError("there is no test split here.")
        source = self._read_test()
        wrong = f"the test split of '{source.name}' does not fit the training split"
        if (shape := source.images.shape[1:]) != self.input_shape:
            raise UserError(f"{wrong}: images are {shape}, not {self.input_shape}.")
        if (label := int(source.labels.max())) >= self.num_classes:
            raise UserError(f"{wrong}: it has label {label}, of {self.num_classes} classes.")
        if self.record.test is not None:
            _require_same("test", source.digest, self.record.test)
        return _Split.of(source)

    def load(self) -> TrainingData:
        """Reads the splits of the record now rather than on first use.

        Raises:
            UserError: see the constructor.
        """
        _ = self._training, self.record.test and self._test
        return self

    @functools.cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        return bilevel_split(self._training.labels.numpy(), self._fraction, self._seed)

    @property
    def train_indices(self) -> np.ndarray:
        """int64, sorted: which examples of the split are trained on."""
        return self._parts[0]

    @property
    def validation_indices(self) -> np.ndarray:
        """int64, sorted: which are held out."""
        return self._parts[1]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)`."""
        return self.record.input_shape

    @property
    def num_classes(self) -> int:
        """Of the task."""
        return self.record.num_classes

    @property
    def normalization(self) -> Normalization:
        """By the statistics of the training part."""
        return self.record.normalization

    @property
    def steps_per_epoch(self) -> int:
        """Training batches that hold about as many images as the training part, at least 1."""
        return max(round(self.record.training_images / self.batch_size), 1)

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
        return self._once(self._training, self.validation_indices, batch_size)

    def test(self, batch_size: int = 500) -> tf.data.Dataset:
        """The test split once, as `validation`.

        Raises:
            UserError: if there is none.
        """
        return self._once(self._test, np.arange(self._test.labels.shape[0]), batch_size)

    def _once(self, split: _Split, chosen: np.ndarray, batch_size: int) -> tf.data.Dataset:
        def element(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images = self.normalization(tf.gather(split.images, indices))
            return images, tf.gather(split.labels, indices)

        dataset = tf.data.Dataset.from_tensor_slices(chosen).batch(batch_size).map(element)
        return _untuned(dataset.prefetch(1))

    def _training_batch(
        self, stream: int, step: tf.Tensor, batches: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = self._choose(stream, self.train_indices, step, batches * self.batch_size)
        key = tf.random.experimental.stateless_fold_in(
            tf.constant([self._seed, stream], tf.int64), step
        )
        images = augment(tf.gather(self._training.images, chosen), key, self._pad, self._flip)
        return self.normalization(images), tf.gather(self._training.labels, chosen)

    def _choose(self, stream: int, part: np.ndarray, step: tf.Tensor, count: int) -> tf.Tensor:
        """The source's indices `(count,)` of the stream's examples at a step.

        The permutation takes three integers, and of each only the low 8 bits where there are up to
        65,536 examples. So its keys are hashed from seed, stream and epoch. Two permutations
        follow each other: of the orders of one, 2**24, some thousand epochs would share a few.
        """
        size = len(part)
        with tf.init_scope(), tf.device("/CPU:0"):  # outside of the graph, which it would fill
            examples = tf.constant(part)
        index = step * count + tf.range(count, dtype=tf.int64)

        def key(epoch: tf.Tensor) -> tf.Tensor:
            seed = tf.constant([self._seed, stream], tf.int64)
            seed = tf.random.experimental.stateless_fold_in(seed, epoch)
            return tf.random.stateless_uniform((6,), seed, None, None, tf.int32)

        epochs, which = tf.unique(index // size)
        keys = tf.gather(tf.map_fn(key, epochs, fn_output_signature=tf.int32), which)
        position = index % size
        for each in tf.split(keys, 2, axis=1):
            position = tf.raw_ops.RandomIndexShuffle(
                index=position, seed=each, max_index=tf.constant(size - 1, tf.int64), rounds=4
            )
        return tf.gather(examples, position)

    def _dataset(
        self, start_step: int, steps: int, element: Callable[[tf.Tensor], object]
    ) -> tf.data.Dataset:
        if start_step < 0:
            raise UserError(f"start_step must not be negative. Received: {start_step}.")
        if steps < 1:
            raise UserError(f"steps must be positive. Received: {steps}.")
        _ = self._parts  # read now, not while the steps are traced
        dataset = tf.data.Dataset.range(start_step, start_step + steps)
        dataset = dataset.map(element, num_parallel_calls=2, deterministic=True)
        return _untuned(dataset.prefetch(2))


class SearchData(TrainingData):
    """Training data that also give what a step of the search needs: inner and outer batches."""

    def __init__(
        self,
        source: Source | Callable[[], Source],
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
        _require_size("validation_batch_size", validation_batch_size, self.validation_indices)
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
        leading, held_out = (self._inner_steps + 1, self.batch_size), self.validation_indices

        def element(step: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
            images, labels = self._training_batch(_INNER, step, leading[0])
            images = tf.reshape(images, leading + self.input_shape)
            chosen = self._choose(_OUTER, held_out, step, self._validation_batch_size)
            outer = self.normalization(tf.gather(self._training.images, chosen))
            return {
                "train": (images, tf.reshape(labels, leading)),
                "validation": (outer, tf.gather(self._training.labels, chosen)),
            }

        return self._dataset(start_step, steps, element)
