"""Batch normalisation with exact first and second derivatives, both in closed form.

`keras.layers.BatchNormalization` has a wrong second derivative in training mode (`tf.nn.moments`
stops the gradient of the mean inside the variance) and spreads over two dozen operations. Here the
first derivative is one kernel and the second is a handful of sums and one affine combination, from
the textbook expressions; with x^ the normalised input, r the inverse standard deviation and sums
over the n positions of a channel:

    dx = gamma r (dy - mean(dy) - x^ mean(dy x^)),   dgamma = sum(dy x^),   dbeta = sum(dy)
"""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = ["BatchNormalization", "batch_normalize"]


def batch_normalize(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalises a batch with its own statistics.

    Args:
        x: `(batch, height, width, channels)`, float32 or float64.
        gamma: `(channels,)`, scale.
        beta: `(channels,)`, offset.
        epsilon: added to the variance.

    Returns:
        `(y, mean, variance)`: `y` like `x`, twice differentiable; `mean` and biased `variance`
        `(channels,)`, once differentiable with respect to `x`.
    """
    # The decorator would turn epsilon, an attribute of the kernel, into a tensor: bind it first.
    normalize = tf.custom_gradient(lambda *tensors: _normalize(epsilon, *tensors))
    y, mean, variance = normalize(x, gamma, beta)
    return (y, *_statistics_of(x, tf.stop_gradient(mean), tf.stop_gradient(variance)))


def count_positions(x: tf.Tensor):
    """Values a channel, of `x`'s type; a number, which spares operations, where it is known."""
    if x.shape.is_fully_defined():
        return x.dtype.as_numpy_dtype(x.shape[:-1].num_elements())
    return tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), x.dtype)


def _normalize(epsilon: float, x, gamma, beta):
    if x.dtype == tf.float32:
        none = tf.constant([], tf.float32)
        y, mean, unbiased, *saved = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon
        )
        count = count_positions(x)
        # Of a single value the unbiased variance is 0 / 0, which some kernels give.
        variance = tf.math.multiply_no_nan(unbiased, (count - 1.0) / count)
    else:
        mean = tf.reduce_mean(x, [0, 1, 2])
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), [0, 1, 2])
        scale = gamma * tf.math.rsqrt(variance + epsilon)
        y, saved = x * scale + (beta - mean * scale), []

    def grad(dy, *_):
        backward = tf.custom_gradient(lambda *tensors: _backward(epsilon, *tensors))
        return backward(dy, x, gamma, mean, variance, *saved)

    return (y, mean, variance), grad


def _gradients(dy, x, gamma, mean, r, epsilon, saved):
    """`(dx, dgamma, dbeta)` for the gradient `dy` of the normalised batch."""
    if saved:
        return tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy,
            x=x,
            scale=gamma,
            reserve_space_1=saved[0],
            reserve_space_2=saved[1],
            reserve_space_3=saved[2],
            epsilon=epsilon,
        )[:3]
    count = count_positions(x)
    d_beta = tf.reduce_sum(dy, [0, 1, 2])
    d_gamma = (tf.reduce_sum(dy * x, [0, 1, 2]) - mean * d_beta) * r
    slope = gamma * r
    of_x = -slope * r * d_gamma / count
    return dy * slope + (x * of_x - (slope * d_beta / count + of_x * mean)), d_gamma, d_beta


def _backward(epsilon: float, dy, x, gamma, mean, variance, *saved):
    r = tf.math.rsqrt(variance + epsilon)
    dx, d_gamma, d_beta = _gradients(dy, x, gamma, mean, r, epsilon, saved)

    def grad(c, c_gamma, c_beta):
        """Cotangents of `dy`, `x`, `gamma` for cotangents of `dx`, `dgamma`, `dbeta`."""
        share = 1.0 / count_positions(x)
        # The derivative of dx with respect to dy is symmetric: the same kernel, applied to c.
        of_dy, c_xhat, c_sum = _gradients(c, x, gamma, mean, r, epsilon, saved)
        c_dy = tf.reduce_sum(c * dy, [0, 1, 2])
        from_gamma, slope = c_gamma * r, gamma * r * r
        of_dy += x * from_gamma + (c_beta - from_gamma * mean)
        c_xhat, d_sum = c_xhat * share, d_beta * share
        along_sum, along_xhat = c_sum * d_sum, c_xhat * d_gamma
        k_x = slope * (along_sum + 3.0 * along_xhat - c_dy) - from_gamma * d_gamma
        k_x *= r * share
        k_dy = from_gamma - slope * c_xhat
        k_c = slope * d_gamma * -share
        of_x = x * k_x + dy * k_dy + (c * k_c - (k_x * mean + k_dy * d_sum + k_c * c_sum * share))
        of_gamma = r * (c_dy - along_sum - along_xhat)
        return (of_dy, of_x, of_gamma, *[None] * (2 + len(saved)))

    return (dx, d_gamma, d_beta), grad


@tf.custom_gradient
def _statistics_of(x, mean, variance):
    """Names known statistics as functions of `x`; nothing is computed unless differentiated."""

    def grad(d_mean, d_variance):
        n = count_positions(x)
        slope = 2.0 * d_variance / n
        return x * slope + (d_mean / n - slope * mean), None, None

    return (tf.identity(mean), tf.identity(variance)), grad


def _masked_normalize(x, mask, gamma, beta, epsilon: float):
    """As `batch_normalize`, with statistics of positions where `mask` `(batch, ...)` is true."""
    if mask.shape.rank != x.shape.rank - 1:
        raise ValueError(
            f"mask must have one dimension less than the inputs. "
            f"Received: {mask.shape} for {x.shape}"
        )
    axes, kept = list(range(x.shape.rank - 1)), tf.cast(mask, "bool")[..., tf.newaxis]
    count = tf.reduce_sum(tf.cast(kept, x.dtype)) + keras.config.epsilon()  # as in Keras
    mean = tf.reduce_sum(tf.where(kept, x, 0.0), axes) / count
    variance = tf.reduce_sum(tf.where(kept, x - mean, 0.0) ** 2, axes) / count
    return (x - mean) * tf.math.rsqrt(variance + epsilon) * gamma + beta, mean, variance


@keras.saving.register_keras_serializable(package="sedona_tf")
class BatchNormalization(keras.layers.Layer):
    """Batch normalisation over the last axis, twice differentiable without error.

    The numbers are those of `keras.layers.BatchNormalization`. The defaults are the reference
    networks': momentum 0.9 and epsilon 1e-5. As in Keras, a frozen layer (`trainable = False`) uses
    its moving statistics in training too, and does not change them.
    The moving statistics are differentiable functions of the input, so a validation loss that uses
    them can be differentiated through them.

    Args:
        momentum: decay of the moving statistics per training call.
        epsilon: added to the variance, in squared units of the input.

    Inputs are `(batch, ..., channels)`. A mask `(batch, ...)` leaves positions out of the batch's
    statistics.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape) -> None:
        # Statistics, scale and offset stay in full precision whatever the inputs' is.
        options = {"shape": (input_shape[-1],), "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **options)
        self.beta = self.add_weight(name="beta", initializer="zeros", **options)
        self.moving_mean = self.add_weight(
            name="moving_mean", initializer="zeros", trainable=False, **options
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", initializer="ones", trainable=False, **options
        )

    def call(self, inputs: tf.Tensor, training: bool = False, mask=None) -> tf.Tensor:
        gamma, beta = self.gamma.value, self.beta.value
        if not (training and self.trainable):
            scale = tf.math.rsqrt(self.moving_variance.value + self.epsilon) * gamma
            offset = beta - self.moving_mean.value * scale
            return inputs * tf.cast(scale, inputs.dtype) + tf.cast(offset, inputs.dtype)
        x = inputs
        narrow = x.dtype in (tf.float16, tf.bfloat16)
        if narrow:  # as in Keras: half-precision statistics would be worthless
            x, gamma, beta = (tf.cast(tensor, tf.float32) for tensor in (x, gamma, beta))
        if mask is not None:
            y, mean, variance = _masked_normalize(x, mask, gamma, beta, self.epsilon)
        elif x.shape.rank == 4:
            y, mean, variance = batch_normalize(x, gamma, beta, self.epsilon)
        else:
            positions = x.shape[1:-1].num_elements() or tf.reduce_prod(tf.shape(x)[1:-1])
            flat = tf.reshape(x, (-1, positions, 1, x.shape[-1]))
            y, mean, variance = batch_normalize(flat, gamma, beta, self.epsilon)
            y = tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)
        self.update(mean, variance)
        return tf.cast(y, inputs.dtype) if narrow else y

    def update(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Moves the moving statistics towards a batch's mean and biased variance, `(channels,)`."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            batch = tf.cast(batch, moving.dtype)
            moving.assign(moving.value * self.momentum + batch * (1.0 - self.momentum))

    def get_config(self) -> dict:
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
