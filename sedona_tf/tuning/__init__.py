"""Decouplings by black-box search: cuts and auxiliary nets as hyperparameters of keras-tuner."""

import sedona_tf.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.tuning.hypermodel import DecouplingHyperModel
from sedona_tf.tuning.trial_record import TrialRecord
from sedona_tf.tuning.tuner import DecouplingTuner, FailedTrial

__all__ = ["DecouplingHyperModel", "DecouplingTuner", "FailedTrial", "TrialRecord"]
