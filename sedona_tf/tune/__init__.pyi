from .hypermodel import DecouplingHyperModel as DecouplingHyperModel
from .run import run_tuning as run_tuning
from .trials import TrialRecord as TrialRecord
from .tuner import DecouplingTuner as DecouplingTuner
