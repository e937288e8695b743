"""From a plan's scores to a decoupling: where to cut for K blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sedona_tf.errors import UserError
from sedona_tf.plans.decoupling import Decoupling, Tie

if TYPE_CHECKING:
    from sedona_tf.plans.plan import Plan

__all__ = ["TIE_TOLERANCE", "decode"]

TIE_TOLERANCE = 1e-3
"""Probabilities no further apart than this are as good as equal."""


def decode(plan: Plan, num_blocks: int) -> Decoupling:
    """Cuts after the K-1 most probable units, with the most probable candidate at each.

    Equal probabilities: the lower unit and the lower candidate index win. Choices that hang on
    less than `TIE_TOLERANCE` are reported in `ties`.

    Args:
        plan: the searched scores of a backbone with L units.
        num_blocks: K, from 1 (no cut) to L (a cut after every unit but the last).

    Returns:
        The decoupling.

    Raises:
        UserError: if K is out of range.
    """
    if type(num_blocks) is not int or not 1 <= num_blocks <= plan.num_units:
        raise UserError(
            f"the number of blocks must be between 1 and {plan.num_units}, the number of units "
            f"of {plan.backbone}. Received: {num_blocks}"
        )
    p = dict(enumerate(plan.cut_probability, 1))
    order = sorted(p, key=lambda unit: (-p[unit], unit))
    taken, left = order[: num_blocks - 1], order[num_blocks - 1 :]
    ties = []
    if taken and left and p[taken[-1]] - p[left[0]] <= TIE_TOLERANCE:
        chosen = sorted(unit for unit in taken if p[unit] - p[left[0]] <= TIE_TOLERANCE)
        rivals = sorted(unit for unit in left if p[taken[-1]] - p[unit] <= TIE_TOLERANCE)
        ties.append(Tie(None, tuple(chosen), tuple(rivals)))
    auxiliary = []
    names = plan.candidate_names
    for unit in sorted(taken):
        weights = plan.candidate_weights[unit - 1]
        best = weights.index(max(weights))
        auxiliary.append(plan.candidates[best])
        near = [i for i, w in enumerate(weights) if weights[best] - w <= TIE_TOLERANCE]
        if len(near) > 1:
            ties.append(Tie(unit, (names[best],), tuple(names[i] for i in near if i != best)))
    return Decoupling(
        plan.backbone,
        plan.num_units,
        tuple(sorted(taken)),
        tuple(auxiliary),
        tuple(ties),
        plan.provenance,
    )
