"""From a plan's scores to a decoupling: where to cut for K blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sedona_tf.errors import UserError
from sedona_tf.plans.decoupling import Decoupling, Tie

__all__ = ["TIE_TOLERANCE", "Scores", "decode", "find_ties"]

TIE_TOLERANCE = 1e-3
"""Probabilities no further apart than this are as good as equal."""


class Scores(Protocol):
    """What is needed of a `Plan`, whose attributes these are."""

    @property
    def backbone(self) -> str: ...

    @property
    def num_units(self) -> int: ...

    @property
    def candidates(self) -> tuple[dict[str, Any], ...]: ...

    @property
    def candidate_names(self) -> tuple[str, ...]: ...

    @property
    def cut_probability(self) -> tuple[float, ...]: ...

    @property
    def candidate_weights(self) -> tuple[tuple[float, ...], ...]: ...

    @property
    def provenance(self) -> dict[str, Any]: ...


def decode(plan: Scores, num_blocks: int) -> Decoupling:
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
    p = plan.cut_probability
    order = sorted(range(1, plan.num_units), key=lambda unit: (-p[unit - 1], unit))
    cuts = sorted(order[: num_blocks - 1])
    rows = [plan.candidate_weights[unit - 1] for unit in cuts]
    chosen = [row.index(max(row)) for row in rows]
    return Decoupling(
        plan.backbone,
        plan.num_units,
        tuple(cuts),
        tuple(plan.candidates[index] for index in chosen),
        find_ties(plan, cuts, chosen),
        plan.provenance,
    )


def find_ties(plan: Scores, cut_after: Sequence[int], candidates: Sequence[int]) -> tuple[Tie, ...]:
    """Choices of a decoupling within `TIE_TOLERANCE` of another, or against the scores.

    Args:
        plan: the searched scores.
        cut_after: `(K-1,)` 1-based units.
        candidates: `(K-1,)` indices of the auxiliary nets there.

    Returns:
        One tie about the cuts, if there is one, and one for each unit whose net has rivals.
    """
    p = dict(enumerate(plan.cut_probability, 1))
    left = [unit for unit in p if unit not in cut_after]
    ties = []
    if cut_after and left:
        least, most = min(p[unit] for unit in cut_after), max(p[unit] for unit in left)
        chosen = tuple(unit for unit in cut_after if p[unit] - most <= TIE_TOLERANCE)
        rivals = tuple(unit for unit in left if least - p[unit] <= TIE_TOLERANCE)
        if chosen:
            ties.append(Tie(None, chosen, rivals))
    names = plan.candidate_names
    for unit, index in zip(cut_after, candidates, strict=True):
        weights = plan.candidate_weights[unit - 1]
        near = [
            name
            for other, name in enumerate(names)
            if other != index and weights[index] - weights[other] <= TIE_TOLERANCE
        ]
        if near:
            ties.append(Tie(unit, (names[index],), tuple(near)))
    return tuple(ties)
