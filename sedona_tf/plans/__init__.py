"""Plans: what a search found, and the decouplings that follow from it."""

from sedona_tf.plans.decode import Decoupling, Tie
from sedona_tf.plans.plan import Plan

__all__ = ["Decoupling", "Plan", "Tie"]
