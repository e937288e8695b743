"""From a plan's scores to a decoupling: where to cut for K blocks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sedona_tf.errors import UserError

if TYPE_CHECKING:
    from sedona_tf.plans.plan import Plan

__all__ = ["TIE_TOLERANCE", "Decoupling", "Tie", "decode"]

TIE_TOLERANCE = 1e-3
"""Probabilities no further apart than this are as good as equal."""


@dataclasses.dataclass(frozen=True)
class Tie:
    """A choice that another search could have made differently.

    Attributes:
        unit: 1-based unit whose auxiliary net it is about; None if it is about where to cut.
        chosen: units (from 1) or candidate indices (from 0) that were taken.
        rivals: those as good as these that were not.
    """

    unit: int | None
    chosen: tuple[int, ...]
    rivals: tuple[int, ...]

    def __str__(self) -> str:
        chosen, rivals = (", ".join(map(str, items)) for items in (self.chosen, self.rivals))
        if self.unit is None:
            return f"cut after unit {chosen} as good as after {rivals}"
        return f"after unit {self.unit}, candidate {chosen} as good as {rivals}"


@dataclasses.dataclass(frozen=True)
class Decoupling:
    """Where to cut for one K, and which auxiliary net closes each block but the last.

    Attributes:
        num_blocks: K.
        cut_after: `(K-1,)` 1-based unit numbers, rising.
        candidate: `(K-1,)` index of the candidate at each of these cuts.
        ties: what was decided by the tie-break.
    """

    num_blocks: int
    cut_after: tuple[int, ...]
    candidate: tuple[int, ...]
    ties: tuple[Tie, ...] = ()

    def __post_init__(self) -> None:
        cuts = list(self.cut_after)
        if len(cuts) != self.num_blocks - 1 or len(self.candidate) != len(cuts):
            raise ValueError(
                f"cut_after and candidate must have num_blocks - 1 = {self.num_blocks - 1} "
                f"entries. Received: {len(cuts)} and {len(self.candidate)}"
            )
        if cuts != sorted(set(cuts)) or (cuts and cuts[0] < 1):
            raise ValueError(f"cut_after must rise from 1 or more. Received: {self.cut_after}")

    def blocks(self, num_units: int) -> list[tuple[int, int]]:
        """The blocks as `(first, last)` 1-based units, both inclusive.

        Args:
            num_units: L of the backbone.

        Raises:
            ValueError: if a cut lies beyond the last but one unit.
        """
        if self.cut_after and self.cut_after[-1] >= num_units:
            raise ValueError(
                f"num_units must be over {self.cut_after[-1]}, the last cut. Received: {num_units}"
            )
        edges = (0, *self.cut_after, num_units)
        return [(edges[i] + 1, edges[i + 1]) for i in range(self.num_blocks)]

    def to_dict(self) -> dict[str, Any]:
        """The decoupling as JSON-ready data."""
        return {
            "num_blocks": self.num_blocks,
            "cut_after": list(self.cut_after),
            "candidate": list(self.candidate),
            "ties": [
                {"unit": tie.unit, "chosen": list(tie.chosen), "rivals": list(tie.rivals)}
                for tie in self.ties
            ],
        }


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
    candidates = []
    for unit in sorted(taken):
        weights = plan.candidate_weights[unit - 1]
        best = weights.index(max(weights))
        candidates.append(best)
        near = [i for i, w in enumerate(weights) if weights[best] - w <= TIE_TOLERANCE]
        rivals = [i for i in near if i != best]
        if rivals:
            ties.append(Tie(unit, (best,), tuple(rivals)))
    return Decoupling(num_blocks, tuple(sorted(taken)), tuple(candidates), tuple(ties))
