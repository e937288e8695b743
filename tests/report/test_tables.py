"""The table says what the decoupling says."""

from __future__ import annotations

import math

from sedona_tf.plans import Plan
from sedona_tf.report.tables import decoupling_table


def test_whole_table():
    plan = Plan(
        backbone="toy",
        units=tuple((f"unit{i}", (4,)) for i in range(1, 5)),
        candidates=({"kind": "separable", "depth": 1}, {"kind": "separable", "depth": 2}),
        alpha=((math.log(3), 0.0), (0.0, 0.0), (0.0, 0.0)),
        beta=((0.0, 0.0), (math.log(3), 0.0), (0.0, 0.0)),
    )
    assert decoupling_table(plan, [plan.decode(1), plan.decode(3)]) == (
        "toy: 4 units, 2 candidates a unit\n"
        "\n"
        "K  block  units  auxiliary net       weight  cut probability\n"
        "-  -----  -----  ------------------  ------  ---------------\n"
        "1  1      1-4    (head)              -       -\n"
        "3  1      1      separable(depth=1)  0.500   0.7500\n"
        "   2      2      separable(depth=1)  0.750   0.5000\n"
        "   3      3-4    (head)              -       -\n"
        "   tie: cut after unit 2 as good as after 3\n"
        "   tie: after unit 1, separable(depth=1) as good as separable(depth=2)"
    )
