"""Plans: what a search found, and the decouplings that follow from it."""

from sedona_tf.plans.baselines import BASELINES, METHODS, baseline, require_plan, uniform
from sedona_tf.plans.decoupling import Decoupling, Tie
from sedona_tf.plans.plan import Plan, load_decoupling

__all__ = [
    "BASELINES",
    "METHODS",
    "Decoupling",
    "Plan",
    "Tie",
    "baseline",
    "load_decoupling",
    "require_plan",
    "uniform",
]
