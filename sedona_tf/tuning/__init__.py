"""Decouplings by black-box search: cuts and auxiliary nets as hyperparameters of keras-tuner."""

from sedona_tf.tuning.hypermodel import DecouplingHyperModel
from sedona_tf.tuning.trial_record import TrialRecord
from sedona_tf.tuning.tuner import DecouplingTuner, FailedTrial

__all__ = ["DecouplingHyperModel", "DecouplingTuner", "FailedTrial", "TrialRecord"]
