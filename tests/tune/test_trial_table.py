"""The table of trials, to the letter."""

from __future__ import annotations

from sedona_tf.plans import Decoupling
from sedona_tf.tune.table import trial_table
from sedona_tf.tune.trials import TrialRecord


def test_table():
    net = {"kind": "separable", "depth": 1, "kernel": 5}
    one = Decoupling("toy", 8, (3,), (net,))
    two = Decoupling("toy", 8, (3, 4), ({"kind": "mlp_sr"}, net))
    trials = [TrialRecord("1", two, 0.12345, 7.06, 9, 3), TrialRecord("0", one, 0.5, 61, 3, 1)]
    assert trial_table(trials) == (
        "trial  epochs  val error (%)  seconds  cut after  auxiliary nets\n"
        "-----  ------  -------------  -------  ---------  "
        "------------------------------------\n"
        "1      3       12.35          7.1      3, 4       "
        "mlp_sr, separable(depth=1, kernel=5)\n"
        "0      1       50.00          61.0     3          separable(depth=1, kernel=5)"
    )
