"""The messages of TensorFlow Serving that are written here, from an optional package."""

from __future__ import annotations

from sedona_tf.errors import UserError

__all__ = ["ModelServerConfig", "PredictRequest", "PredictionLog"]

try:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig
except ImportError as error:
    raise UserError(
        "tensorflow-serving-api is missing: pip install 'sedona_tf[serving]'."
    ) from error
