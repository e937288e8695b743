"""Trained models as SavedModels for TensorFlow Serving, with warm-up requests and configuration."""
