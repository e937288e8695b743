"""PredSim: a linear classifier and a loss on the similarity of features within a batch.

Nokland and Eidnes, "Training Neural Networks with Local Error Signals" (ICML 2019).
"""

from __future__ import annotations

import keras
import tensorflow as tf

from sedona_tf.auxiliary.losses import cross_entropy
from sedona_tf.layers import conv

__all__ = [
    "MOST_CLASSIFIER_INPUTS",
    "SIMILARITY_SHARE",
    "SpatialDeviation",
    "predsim",
    "predsim_loss",
    "similarity",
    "similarity_features",
]

MOST_CLASSIFIER_INPUTS = 512
"""The classifier's inputs at most, unless there are more channels: the map is pooled to fit."""

SIMILARITY_SHARE = 0.99
"""Share of the similarity loss; the rest is the classifier's (beta in the paper)."""

EPSILON = 1e-8
"""Added to the norms that similarities are divided by."""


def predsim(x, *, num_classes: int, narrow: bool) -> dict:
    """Defines PredSim's two small networks.

    The classifier: average pooling by powers of two until at most `MOST_CLASSIFIER_INPUTS` values
    are left (the longer side first, the height where they are equal), flattening in channel-major
    order and a dense layer. The similarity's features: a bias-free 3x3 convolution, then the
    standard deviation of each channel over the map.

    Args:
        x: symbolic `(batch, height, width, channels)` features.
        num_classes: number of logits.
        narrow: without effect; these networks have one width for all backbones.

    Returns:
        Symbolic `{"features": (batch, channels), "logits": (batch, num_classes)}`.
    """
    del narrow
    channels = x.shape[-1]
    features = similarity_features(x, "conv_0")
    sides, windows = list(x.shape[1:3]), [1, 1]
    while channels * sides[0] * sides[1] > MOST_CLASSIFIER_INPUTS and max(sides) > 1:
        longer = 0 if sides[0] >= sides[1] else 1
        windows[longer] *= 2
        sides[longer] = -(-x.shape[1 + longer] // windows[longer])
    if windows != [1, 1]:
        # A last window that overhangs the map averages over what there is.
        x = keras.layers.AveragePooling2D(tuple(windows), padding="same", name="pool")(x)
    x = keras.layers.Permute((3, 1, 2), name="permute")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return {"features": features, "logits": keras.layers.Dense(num_classes, name="dense_0")(x)}


def similarity_features(x, name: str):
    """What PredSim compares: a bias-free 3x3 convolution, then each channel's deviation.

    Args:
        x: symbolic `(batch, height, width, channels)` output of a unit.
        name: of the convolution.

    Returns:
        Symbolic `(batch, channels)`.
    """
    return SpatialDeviation(name="deviation")(conv(x, x.shape[-1], 3, name=name))


def predsim_loss(outputs: dict, labels: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Cross entropy of the logits and squared error of the similarities of features and labels.

    Args:
        outputs: what `predsim` returns; taken to float32 if they are of half precision, which has
            no `EPSILON`.
        labels: `(batch,)` integers.
        smoothing: without effect; PredSim is defined on plain labels.

    Returns:
        Scalar, `(1 - SIMILARITY_SHARE)` times the cross entropy plus `SIMILARITY_SHARE` times the
        mean over all `batch * batch` pairs.
    """
    del smoothing
    logits, features = _widened(outputs["logits"]), _widened(outputs["features"])
    targets = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    error = tf.math.squared_difference(similarity(features), similarity(targets))
    classification = cross_entropy(logits, labels)
    return (1.0 - SIMILARITY_SHARE) * classification + SIMILARITY_SHARE * tf.reduce_mean(error)


def similarity(x: tf.Tensor) -> tf.Tensor:
    """Cosine similarities of the rows of a batch, each centred first.

    Args:
        x: `(batch, values)`.

    Returns:
        `(batch, batch)` in [-1, 1]; zero for a row whose values are all equal.
    """
    x -= tf.reduce_mean(x, 1, keepdims=True)
    x /= _root(tf.reduce_sum(tf.square(x), 1, keepdims=True)) + EPSILON
    return tf.matmul(x, x, transpose_b=True)


def _widened(x: tf.Tensor) -> tf.Tensor:
    """Half precision as float32, all else as it is."""
    return tf.cast(x, keras.backend.result_type(x.dtype, "float32"))


def _root(x: tf.Tensor) -> tf.Tensor:
    """Square root whose derivatives at zero are zero, not infinite."""
    positive = x > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, x, tf.ones_like(x))), tf.zeros_like(x))


@keras.saving.register_keras_serializable(package="sedona_tf")
class SpatialDeviation(keras.layers.Layer):
    """Standard deviation (unbiased) of each channel over the positions of a map.

    A map of one position has none: its values themselves go through. Where a channel is constant
    the derivative is taken to be zero.

    Input `(batch, height, width, channels)`, output `(batch, channels)`; of half precision, in
    float32: the sum of a large map's squares is more than float16 holds.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        inputs = _widened(inputs)
        positions = inputs.shape[1] * inputs.shape[2]
        if positions == 1:
            return inputs[:, 0, 0]
        x = inputs - tf.reduce_mean(inputs, [1, 2], keepdims=True)
        return _root(tf.reduce_sum(tf.square(x), [1, 2]) / (positions - 1))
