"""The functions of a served model: from images as they are stored to probabilities and classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from sedona_tf.data import Normalization
from sedona_tf.data.resizing import resize_batch
from sedona_tf.train.model import DecoupledModel

__all__ = ["Preprocessing", "build_signatures"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to an image between the data set and the network, as `TrainingData` does it.

    Attributes:
        stored_shape: `(height, width, channels)` of images in the data set.
        size: height and width of the network's input.
        whole: whether resized images are rounded to whole numbers: those stored as uint8 are.
        normalization: of the training part.
    """

    stored_shape: tuple[int, ...]
    size: tuple[int, int]
    whole: bool
    normalization: Normalization

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Images `(N, *stored_shape)` from 0 to 255 to the network's `(N, *size, C)` float32."""
        if self.stored_shape[:2] != self.size:
            images = resize_batch(images, self.size, self.whole)
        return self.normalization(tf.cast(images, tf.float32) / 255.0)


def build_signatures(
    model: DecoupledModel, preprocessing: Preprocessing, temperatures: Sequence[float] | None
) -> dict[str, ConcreteFunction]:
    """Traces one function a signature, each with the blocks and classifiers it needs, no more.

    No function places anything on a device: where it is served, there may be others.

    Args:
        model: trained, of K blocks.
        preprocessing: of its images.
        temperatures: `(K,)`, from `Ensemble.calibrate`; None for no ensemble.

    Returns:
        Functions from `images`, `(N, *stored_shape)`, to `probabilities`, float32 `(N, classes)`,
        and `classes`, int64 `(N,)`: `"serving_default"` and `"serving_float"` of the head,
        `"exit_k"` of the classifier of block k, from 1 to K, where K's is the head, and
        `"ensemble"` of all of them. Images are uint8, of `"serving_float"` alone float32.
    """
    blocks = model.blocks
    # An auxiliary net may have outputs, and layers for them, that serve its loss alone.
    nets = [keras.Model(b.classifier.inputs, b.logits(b.classifier.output)) for b in blocks]

    def trace(voters: dict[int, float], dtype: tf.DType = tf.uint8) -> ConcreteFunction:
        """The average of some blocks' classifiers; `voters` are indices and temperatures."""

        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            features, votes = preprocessing(images), []
            for index in range(max(voters) + 1):
                features = blocks[index].features(features, training=False)
                if index in voters:
                    # In float64, as `Ensemble` has it, so that both find the same classes.
                    logits = tf.cast(nets[index](features, training=False), tf.float64)
                    votes.append(tf.nn.softmax(logits / voters[index]))
            probabilities = tf.add_n(votes) / len(votes)
            return {
                "probabilities": tf.cast(probabilities, tf.float32),
                "classes": tf.argmax(probabilities, axis=-1, output_type=tf.int64),
            }

        images = tf.TensorSpec((None, *preprocessing.stored_shape), dtype, name="images")
        return tf.function(serve, input_signature=[images], autograph=False).get_concrete_function()

    head = {len(blocks) - 1: 1.0}
    signatures = {"serving_default": trace(head), "serving_float": trace(head, tf.float32)}
    for index in range(len(blocks)):
        signatures[f"exit_{index + 1}"] = trace({index: 1.0})
    if temperatures is not None:
        signatures["ensemble"] = trace(dict(enumerate(temperatures)))
    return signatures
