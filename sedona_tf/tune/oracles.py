"""What decides which decouplings are tried: keras-tuner's oracles, without files of their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from sedona_tf.tune.hypermodel import DecouplingHyperModel

__all__ = ["TUNERS", "BayesianOracle", "HyperbandOracle", "RandomOracle", "make_oracle"]

TUNERS = ("random", "bayesian", "hyperband")
HYPERBAND_SWEEPS = 10**9
"""No end to them; keras-tuner's own word for it, an infinity, has no place in JSON."""


class _Unsaved:
    """An oracle that writes nothing: `DecouplingTuner` keeps its state, all or nothing."""

    def save(self) -> None:
        """Does nothing."""

    def _save_trial(self, trial: Trial) -> None:
        """Does nothing."""


class RandomOracle(_Unsaved, keras_tuner.oracles.RandomSearchOracle):
    """Random search that draws no decoupling twice; the tuner ends it once there are no others.

    Args:
        point: a key that is equal for two sets of hyperparameters of one decoupling.
        **given: see keras-tuner.
    """

    def __init__(
        self, point: Callable[[keras_tuner.HyperParameters], Hashable], **given: Any
    ) -> None:
        super().__init__(**given)
        self.point = point

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See keras-tuner."""
        tried = {self.point(trial.hyperparameters) for trial in self.trials.values()}
        while True:
            drawn = super().populate_space(trial_id)
            hp = self.hyperparameters.copy()
            hp.values = drawn["values"]
            if drawn["values"] is None or self.point(hp) not in tried:
                return drawn


class BayesianOracle(_Unsaved, keras_tuner.oracles.BayesianOptimizationOracle):
    """keras-tuner's, see there."""


class HyperbandOracle(_Unsaved, keras_tuner.oracles.HyperbandOracle):
    """keras-tuner's, see there."""


def make_oracle(
    tuner: str, hypermodel: DecouplingHyperModel, max_trials: int
) -> keras_tuner.Oracle:
    """An oracle for the trials of a hypermodel.

    Args:
        tuner: one of `TUNERS`.
        hypermodel: to be tuned; the recipe's seed is the oracle's, plus one.
        max_trials: in all.
    """
    hp = keras_tuner.HyperParameters()
    hypermodel.decoupling(hp)
    given: dict[str, Any] = {
        "objective": keras_tuner.Objective("val_error", "min"),
        "hyperparameters": hp,
        "seed": hypermodel.recipe.seed + 1,  # an oracle takes 0 for none
    }
    oracle: keras_tuner.Oracle
    if tuner == "random":
        oracle = RandomOracle(hypermodel.point, **given)
    elif tuner == "bayesian":
        # By default three a hyperparameter would be random, all trials of most runs.
        oracle = BayesianOracle(num_initial_points=max(max_trials // 3, 3), **given)
    else:
        epochs = hypermodel.recipe.train.epochs
        oracle = HyperbandOracle(max_epochs=epochs, hyperband_iterations=HYPERBAND_SWEEPS, **given)
    oracle.max_trials, oracle.verbose = max_trials, 0
    return oracle
