"""Ensemble: the head and the last auxiliary nets of a decoupled model predict together."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from sedona_tf.errors import UserError
from sedona_tf.evaluate.exits import Evaluation
from sedona_tf.evaluate.temperature import fit_temperature
from sedona_tf.plans import Decoupling
from sedona_tf.runs.progress import progress_bar

__all__ = ["Ensemble", "evaluate_exits"]


class Model(Protocol):
    """What is needed of a `sedona_tf.train.DecoupledModel`."""

    backbone: keras.Model
    decoupling: Decoupling

    @property
    def blocks(self) -> Sequence[Any]:
        """Its K blocks."""

    def block_logits(self, images: tf.Tensor, *, training: bool) -> Sequence[tf.Tensor]:
        """`(batch, classes)` of every block."""


class Ensemble:
    """Averages the class probabilities of the head and the last auxiliary nets.

    The classifiers share the backbone: each batch runs through it once. Data are a `tf.data`
    dataset of batches `(images, labels)`, or an array of images `(N, height, width, channels)`,
    with an array of labels `(N,)` where labels are needed.

    Args:
        model: trained; its weights are used as they are at each call.
        last: number of auxiliary nets that vote with the head, from 0; all K-1 if None.
        progress: whether `calibrate` and `evaluate` show a progress bar.
        callbacks: Keras', whose `on_test_batch_end` is called after every batch.

    Attributes:
        temperatures: `(K,)`, what each classifier's logits are divided by; None, which is 1 each,
            until `calibrate`.

    Raises:
        UserError: if `last` is out of range; by all methods, if data or logits are unusable.

    Example:
        >>> from sedona_tf import DecoupledModel, backbones, plans
        >>> backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
        >>> model = DecoupledModel(backbone, plans.baseline("dgl", backbone, 2))
        >>> images, labels = np.zeros((6, 8, 8, 1), "float32"), np.arange(6)
        >>> Ensemble(model, last=1).calibrate(images, labels).predict(images).shape
        (6, 10)
    """

    def __init__(
        self,
        model: Model,
        last: int | None = None,
        progress: bool = False,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        most = len(model.blocks) - 1
        if last is None:
            last = most
        if type(last) is not int or not 0 <= last <= most:
            raise UserError(f"last must be a whole number from 0 to {most}. Received: {last!r}")
        self.model = model
        self.last = last
        self.progress = progress
        self.callbacks = callbacks
        self.temperatures: tuple[float, ...] | None = None
        first = model.backbone.inputs[0]
        self._input_shape = tuple(first.shape[1:])

        def logits(images: tf.Tensor) -> tf.Tensor:
            each = model.block_logits(images, training=False)
            # the input's type: float32 also where the units work in half precision
            return tf.stack([tf.cast(one, first.dtype) for one in each], axis=1)

        signature = [tf.TensorSpec((None, *self._input_shape), first.dtype)]
        self._function = tf.function(logits, input_signature=signature, autograph=False)

    def calibrate(self, data: Any, labels: Any = None, batch_size: int = 500) -> Ensemble:
        """Fits the temperature of every classifier, by `fit_temperature`.

        Args:
            data: validation data, which the model was not trained on.
            labels: of an array of images.
            batch_size: images at a time, of an array.

        Returns:
            The ensemble itself.
        """
        batches = list(self._labelled("calibrating", data, labels, batch_size))
        logits = np.concatenate([batch for batch, _ in batches])
        given = np.concatenate([batch for _, batch in batches])
        self.temperatures = tuple(
            fit_temperature(logits[:, index], given) for index in range(logits.shape[1])
        )
        return self

    def predict(self, data: Any, batch_size: int = 500) -> np.ndarray:
        """Class probabilities `(N, classes)`, float64; labels in the data are not looked at."""
        return np.concatenate(
            [
                _averages(logits, self.temperatures)[:, self.last]
                for logits, _ in self._logits(data, None, batch_size)
            ]
        )

    def evaluate(self, data: Any, labels: Any = None, batch_size: int = 500) -> Evaluation:
        """Errors of every classifier and of the ensembles with the last 1, ..., K-1 auxiliary nets.

        Args:
            data: as the class says; one batch is in memory at a time.
            labels: of an array of images.
            batch_size: images at a time, of an array.

        Returns:
            The errors; those of calibrated ensembles only if there are `temperatures`.
        """
        count = 0
        wrong = np.zeros((3, len(self.model.blocks)), np.int64)
        for logits, given in self._labelled("evaluating", data, labels, batch_size):
            scores = (logits, _averages(logits, None), _averages(logits, self.temperatures))
            for row, each in zip(wrong, scores, strict=True):
                row += np.sum(np.argmax(each, axis=-1) != given[:, None], axis=0)
            count += len(given)
        alone, plain, calibrated = (tuple(row) for row in (wrong / count).tolist())
        return Evaluation(
            decoupling=self.model.decoupling,
            num_images=count,
            exits=alone[:-1],
            head=alone[-1],
            ensembles=plain[1:],
            calibrated_ensembles=None if self.temperatures is None else calibrated[1:],
            temperatures=self.temperatures,
        )

    def _labelled(
        self, what: str, data: Any, labels: Any, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits `(batch, K, classes)` and labels `(batch,)` int64, checked, with a bar."""
        bar = progress_bar(what, _count(data, batch_size), "batch", shown=self.progress)
        with contextlib.closing(bar):
            for logits, given in self._logits(data, labels, batch_size):
                yield logits, _checked_labels(given, logits)
                bar.update()

    def _logits(
        self, data: Any, labels: Any, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Logits `(batch, K, classes)`, and labels as they are."""
        empty = True
        for index, (images, given) in enumerate(_batches(data, labels, batch_size)):
            if tuple(images.shape[1:]) != self._input_shape:
                raise UserError(
                    f"images must come in batches of the shape (N, {_words(self._input_shape)}). "
                    f"Received: ({_words(images.shape)})"
                )
            if not len(images):
                continue
            empty = False
            logits = self._function(tf.cast(images, self._function.input_signature[0].dtype))
            logits = logits.numpy()
            for callback in self.callbacks:
                callback.on_test_batch_end(index)
            finite = np.isfinite(logits).all(axis=(0, 2))
            if not finite.all():
                raise UserError(
                    f"the logits of block {np.argmin(finite) + 1} are not finite; "
                    "has the training diverged?"
                )
            yield logits, given
        if empty:
            raise UserError("there must be at least one image. Received: none")


def evaluate_exits(
    model: Model, data: Any, temperatures: Sequence[float] | None = None
) -> Evaluation:
    """Errors of every block's classifier and of the ensembles; see `Ensemble.evaluate`.

    Args:
        model: trained.
        data: a `tf.data` dataset of batches `(images, labels)`.
        temperatures: `(K,)`, from `Ensemble.calibrate`; no calibrated ensembles if None.

    Raises:
        UserError: if there are not K positive temperatures, or data or logits are unusable.
    """
    ensemble = Ensemble(model)
    if temperatures is not None:
        given = tuple(map(float, temperatures))
        if len(given) != len(model.blocks) or not all(0 < each < math.inf for each in given):
            raise UserError(
                f"temperatures must be {len(model.blocks)} positive numbers. Received: {given}"
            )
        ensemble.temperatures = given
    return ensemble.evaluate(data)


def _averages(logits: np.ndarray, temperatures: Sequence[float] | None) -> np.ndarray:
    """Logits `(N, K, classes)` to probabilities; `[:, n]` of the head and the last n others."""
    scaled = np.asarray(logits, np.float64)
    if temperatures is not None:
        scaled = scaled / np.reshape(temperatures, (-1, 1))
    from_head = softmax(scaled, axis=-1)[:, ::-1]
    return np.cumsum(from_head, axis=1) / np.arange(1, scaled.shape[1] + 1)[:, None]


def _batches(data: Any, labels: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, tf.data.Dataset):
        if labels is not None:
            raise UserError("labels must not be given beside a dataset, which has its own.")
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise UserError("the dataset must end. Received: one that repeats forever")
        for element in data:
            images, given, weights = keras.utils.unpack_x_y_sample_weight(element)
            if weights is not None:
                raise UserError("the dataset must give (images, labels), without sample weights.")
            yield images, given
        return
    if batch_size < 1:
        raise UserError(f"batch_size must be positive. Received: {batch_size}")
    if labels is not None and len(labels) != len(data):
        raise UserError(f"there must be {len(data)} labels. Received: {len(labels)}")
    for start in range(0, len(data), batch_size):
        part = slice(start, start + batch_size)
        yield data[part], None if labels is None else labels[part]


def _checked_labels(given: Any, logits: np.ndarray) -> np.ndarray:
    """Labels `(batch,)` int64 for logits `(batch, K, classes)`."""
    if given is None:
        raise UserError("labels are needed. Received: images alone")
    given = np.asarray(given)
    if given.size != len(logits) or not np.issubdtype(given.dtype, np.integer):
        raise UserError(
            f"labels must be one whole number for each of the {len(logits)} images. "
            f"Received: {given.dtype} of the shape {given.shape}"
        )
    if given.min() < 0 or given.max() >= logits.shape[-1]:
        raise UserError(
            f"labels must lie between 0 and {logits.shape[-1] - 1}. "
            f"Received: {given.min()} to {given.max()}"
        )
    return given.reshape(-1).astype(np.int64)


def _count(data: Any, batch_size: int) -> int | None:
    """How many batches there are; None if a dataset does not know."""
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        return count if count >= 0 else None
    return -(-len(data) // max(batch_size, 1))


def _words(shape: Sequence[Any]) -> str:
    return ", ".join(map(str, shape))
