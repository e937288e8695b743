"""Plans: what a search found, and the decouplings that follow from it."""

from sedona_tf.plans.architecture import Backbone, Units
from sedona_tf.plans.baselines import BASELINES, METHODS, baseline, require_plan, uniform
from sedona_tf.plans.decoupling import AuxiliaryOptions, Decoupling, Tie, candidate_name
from sedona_tf.plans.plan import TIE_TOLERANCE, Plan, find_ties, load_decoupling

__all__ = [
    "BASELINES",
    "METHODS",
    "TIE_TOLERANCE",
    "AuxiliaryOptions",
    "Backbone",
    "Decoupling",
    "Plan",
    "Tie",
    "Units",
    "baseline",
    "candidate_name",
    "find_ties",
    "load_decoupling",
    "require_plan",
    "uniform",
]
