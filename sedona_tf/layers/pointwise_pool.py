"""The end of a separable auxiliary net in one layer: 1x1 convolution, normalisation, ReLU, pooling.

Layer by layer these four walk a dozen times through a map of 512 channels, which is most of what a
supernet costs. Nothing forces them to: a 1x1 convolution is linear, so the batch statistics of its
output follow from the mean and the covariance C of its few input channels,

    mean(x W) = mean(x) W,   var(x W)_f = W_f' C W_f,

and normalising amounts to another kernel and offset. What remains at 512 channels is one product,
its ReLU and a mean over positions, with both derivatives in closed form.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from sedona_tf.layers.batch_normalization import BatchNormalization, count_positions

__all__ = ["PointwisePool", "pooled_relu"]


@tf.custom_gradient
def pooled_relu(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Mean over positions of `relu(x @ kernel)`, twice differentiable.

    Args:
        x: `(batch, positions, inputs)`.
        kernel: `(inputs, outputs)`.

    Returns:
        `(batch, outputs)`.
    """
    batch, positions, inputs = (x.shape[i] or tf.shape(x)[i] for i in range(3))
    outputs = kernel.shape[1]
    share = tf.ones((batch, 1, positions), x.dtype) / tf.cast(positions, x.dtype)
    active = tf.nn.relu(tf.matmul(tf.reshape(x, (-1, inputs)), kernel))

    def pool(of_positions: tf.Tensor) -> tf.Tensor:
        return tf.matmul(share, tf.reshape(of_positions, (batch, positions, outputs)))[:, 0]

    def where_active(values: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.ReluGrad(gradients=values, features=active)

    def grad(d_pooled: tf.Tensor):
        return backward(d_pooled, x, kernel)

    @tf.custom_gradient
    def backward(d_pooled: tf.Tensor, x: tf.Tensor, kernel: tf.Tensor):
        flat = tf.reshape(x, (-1, inputs))
        spread = tf.matmul(share, d_pooled[:, tf.newaxis], transpose_a=True)
        spread = where_active(tf.reshape(spread, (-1, outputs)))
        of_x = tf.reshape(tf.matmul(spread, kernel, transpose_b=True), tf.shape(x))
        of_kernel = tf.matmul(flat, spread, transpose_a=True)

        def second(c_x: tf.Tensor, c_kernel: tf.Tensor):
            """Cotangents of the arguments; ReLU bends nowhere, so each is linear in `spread`."""
            c_flat = tf.reshape(c_x, (-1, inputs))
            moved = tf.matmul(tf.concat([c_flat, flat], 1), tf.concat([kernel, c_kernel], 0))
            return (
                pool(where_active(moved)),
                tf.reshape(tf.matmul(spread, c_kernel, transpose_b=True), tf.shape(x)),
                tf.matmul(c_flat, spread, transpose_a=True),
            )

        return (of_x, of_kernel), second

    return pool(active), grad


@keras.saving.register_keras_serializable(package="sedona_tf")
class PointwisePool(BatchNormalization):
    """A bias-free 1x1 convolution, batch normalisation, ReLU and global average pooling.

    The numbers are those of the four layers one after the other; see the module.

    Args:
        filters: output channels.
        **kwargs: see `BatchNormalization`.

    Input `(batch, height, width, channels)`, output `(batch, filters)`.
    """

    def __init__(self, filters: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(1, 1, input_shape[-1], self.filters),
            initializer="he_normal",
            autocast=False,
        )
        super().build((*input_shape[:-1], self.filters))

    # Images have no mask.
    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:  # type: ignore[override]
        # Half precision only computes the product: statistics need more, as in BatchNormalization.
        kernel, gamma, beta = (v.value for v in (self.kernel, self.gamma, self.beta))
        _, height, width, channels = inputs.shape
        x = tf.reshape(tf.cast(inputs, kernel.dtype), (-1, height * width, channels))
        kernel = tf.reshape(kernel, (channels, self.filters))
        if training and self.trainable:
            mean = tf.reduce_mean(x, [0, 1])
            x -= mean
            flat = tf.reshape(x, (-1, channels))
            covariance = tf.matmul(flat, flat, transpose_a=True) / count_positions(x)
            variance = tf.reduce_sum(tf.matmul(covariance, kernel) * kernel, 0)
            # Rounding can make it negative; where the value is clamped, its derivatives stay.
            variance += tf.stop_gradient(tf.nn.relu(-variance))
            self.update(tf.linalg.matvec(kernel, mean, transpose_a=True), variance)
        else:
            beta = beta - self.moving_mean.value * gamma * tf.math.rsqrt(
                self.moving_variance.value + self.epsilon
            )
            variance = self.moving_variance.value
        kernel *= gamma * tf.math.rsqrt(variance + self.epsilon)
        # The offset is one more input channel, always 1.
        x = tf.concat([x, tf.ones_like(x[..., :1])], -1)
        return pooled_relu(
            tf.cast(x, inputs.dtype),
            tf.cast(tf.concat([kernel, beta[tf.newaxis]], 0), inputs.dtype),
        )

    def compute_output_shape(self, input_shape) -> tuple:
        return (input_shape[0], self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}
