"""Trained models as SavedModels for TensorFlow Serving, with warm-up requests and configuration."""

import sedona_tf.keras_backend  # noqa: F401 (before anything imports Keras)
