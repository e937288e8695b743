"""Warm-up requests: what a server runs before it calls a version ready, so that nobody waits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from sedona_tf.export.protos import PredictionLog, PredictRequest

__all__ = ["BATCH_SIZES", "write_warmup"]

BATCH_SIZES = (1, 8)


def write_warmup(
    folder: Path, name: str, signatures: Mapping[str, ConcreteFunction], images: np.ndarray
) -> None:
    """Writes a request for every signature and batch size where TensorFlow Serving looks for it.

    Args:
        folder: of the version.
        name: of the model.
        signatures: by name.
        images: `(N, H, W, C)` from 0 to 255; repeated where they are fewer than a batch.
    """
    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as file:
        for signature, function in signatures.items():
            dtype = function.structured_input_signature[0][0].dtype
            for size in BATCH_SIZES:
                request = PredictRequest()
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                batch = np.resize(images, (size, *images.shape[1:]))
                tensor = tf.make_tensor_proto(batch.astype(dtype.as_numpy_dtype))
                request.inputs["images"].CopyFrom(tensor)
                log = PredictionLog()
                log.predict_log.request.CopyFrom(request)
                file.write(log.SerializeToString())
