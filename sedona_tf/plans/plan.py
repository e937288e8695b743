"""A plan: the scores that a search found, reusable for any number of blocks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from sedona_tf import json_file
from sedona_tf.errors import UserError
from sedona_tf.json_file import Json, Name
from sedona_tf.plans.architecture import Backbone, Units
from sedona_tf.plans.decoupling import (
    RETIRED_FIELDS,
    AuxiliaryOptions,
    Decoupling,
    Tie,
    candidate_name,
    require_kinds,
)
from sedona_tf.shipped import plan_file

__all__ = ["TIE_TOLERANCE", "Plan", "find_ties", "load_decoupling"]

TIE_TOLERANCE = 1e-3
"""Probabilities no further apart than this are as good as equal."""


class Plan(json_file.Checked, frozen=True, tag_field="format", tag="sedona_tf.plan"):
    """The result of one search over a backbone with L units and M candidates.

    Attributes:
        backbone: name of the architecture, for example `"resnet18"`.
        units: the architecture, see `Plan.fingerprint`.
        candidates: the M auxiliary nets on offer.
        alpha: `(L-1, 2)` logits of every unit but the last; columns local, backprop.
        beta: `(L-1, M)` logits of the candidates.
        provenance: recipe, seed, steps, versions, dataset.

    Raises:
        ValueError: if a field has a wrong type or shape or a number is not finite.

    Example:
        >>> plan = Plan(
        ...     backbone="toy",
        ...     units=(("unit1", (8, 8, 4)), ("unit2", (8, 8, 4)), ("unit3", (4, 4, 8))),
        ...     candidates=({"kind": "separable", "depth": 1},),
        ...     alpha=((1.0, 0.0), (2.0, 0.0)),
        ...     beta=((0.0,), (0.0,)),
        ... )
        >>> plan.decode(2).blocks()
        [(1, 2), (3, 3)]
    """

    backbone: Name
    units: Units
    candidates: Annotated[tuple[AuxiliaryOptions, ...], Meta(min_length=1)]
    alpha: tuple[tuple[float, float], ...]
    beta: tuple[tuple[float, ...], ...]
    provenance: Mapping[str, Json] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_kinds("candidates", self.candidates)
        num_cuts, num_candidates = self.num_units - 1, len(self.candidates)
        if len(self.alpha) != num_cuts:
            raise ValueError(f"alpha must have the shape ({num_cuts}, 2).")
        if [len(row) for row in self.beta] != [num_candidates] * num_cuts:
            raise ValueError(f"beta must have the shape ({num_cuts}, {num_candidates}).")

    @classmethod
    def indifferent(
        cls, backbone: str, units: Units, candidates: Sequence[AuxiliaryOptions]
    ) -> Plan:
        """A plan to which every cut and every candidate is as good as any other.

        Args:
            backbone: see the class.
            units: see the class.
            candidates: see the class.
        """
        cuts = len(units) - 1
        beta = ((0.0,) * len(candidates),) * cuts
        return cls(backbone, units, tuple(candidates), ((0.0, 0.0),) * cuts, beta)

    @staticmethod
    def fingerprint(backbone: Backbone) -> Units:
        """The names and shapes of units that tell an architecture from others."""
        return tuple((unit.name, tuple(unit.output_shape[1:])) for unit in backbone.units)

    @property
    def num_units(self) -> int:
        """L, the number of units."""
        return len(self.units)

    @property
    def candidate_names(self) -> tuple[str, ...]:
        """The candidates in words, for example `separable(depth=2)`."""
        return tuple(map(candidate_name, self.candidates))

    @property
    def cut_probability(self) -> tuple[float, ...]:
        """`(L-1,)`, softmax(alpha)[local] of every unit but the last."""
        return tuple(_softmax(row)[0] for row in self.alpha)

    @property
    def candidate_weights(self) -> tuple[tuple[float, ...], ...]:
        """`(L-1, M)`, softmax(beta) of every unit but the last."""
        return tuple(_softmax(row) for row in self.beta)

    def decode(self, num_blocks: int) -> Decoupling:
        """Cuts after the K-1 most probable units, with the most probable candidate at each.

        Equal probabilities: the lower unit and the lower candidate index win. Choices that hang on
        less than `TIE_TOLERANCE` are reported in `ties`. `sedona_tf.profile.cost_aware.decode`
        weighs the scores against measured costs.

        Args:
            num_blocks: K, from 1 (no cut) to L (a cut after every unit but the last).

        Raises:
            UserError: if K is out of range.
        """
        if type(num_blocks) is not int or not 1 <= num_blocks <= self.num_units:
            raise UserError(
                f"the number of blocks must be between 1 and {self.num_units}, the number of units "
                f"of {self.backbone}. Received: {num_blocks}"
            )
        p = self.cut_probability
        order = sorted(range(1, self.num_units), key=lambda unit: (-p[unit - 1], unit))
        cuts = sorted(order[: num_blocks - 1])
        rows = [self.candidate_weights[unit - 1] for unit in cuts]
        chosen = [row.index(max(row)) for row in rows]
        return Decoupling(
            self.backbone,
            self.num_units,
            tuple(cuts),
            tuple(self.candidates[index] for index in chosen),
            find_ties(self, cuts, chosen),
            self.provenance,
        )

    def require_architecture(self, backbone: Backbone) -> None:
        """Refuses a backbone other than the one that was searched.

        Raises:
            UserError: naming the first unit that differs.
        """
        given = self.fingerprint(backbone)
        for number, (mine, other) in enumerate(zip(self.units, given, strict=False), 1):
            if mine != other:
                raise UserError(
                    f"the plan is for another architecture: unit {number} is "
                    f"'{mine[0]}' {mine[1]} in the plan, '{other[0]}' {other[1]} in the backbone."
                )
        if len(given) != self.num_units:
            raise UserError(
                f"the plan is for another architecture: it has {self.num_units} units, "
                f"the backbone has {len(given)}; unit {min(len(given), self.num_units) + 1} is "
                f"the first that differs."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan as JSON, all or nothing.

        Raises:
            UserError: if it cannot be written; a file that was there is then untouched.
        """
        json_file.save(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backbone: Backbone | None = None) -> Plan:
        """Reads a plan and refuses what is not exactly one.

        Args:
            path: file that `save` wrote, edited or not, or the name of a plan that comes with the
                package, such as `"fashion_mnist_resnet18"`.
            backbone: if given, the plan must be for its architecture.

        Returns:
            The plan, floats bit for bit as saved.

        Raises:
            UserError: one line naming the file and what is wrong with it.
        """
        path = plan_file(path)
        plan = json_file.load(path, Plan, Decoupling, ignored=RETIRED_FIELDS)
        if not isinstance(plan, Plan):
            raise UserError(f"'{path}' is a decoupling; its cuts are made. This needs a plan.")
        try:
            if backbone is not None:
                plan.require_architecture(backbone)
        except UserError as error:
            raise UserError(f"plan '{path}': {error}") from error
        return plan


def find_ties(plan: Plan, cut_after: Sequence[int], candidates: Sequence[int]) -> tuple[Tie, ...]:
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


def load_decoupling(
    path: str | os.PathLike[str], backbone: Backbone | None, num_blocks: int
) -> Decoupling:
    """Reads a plan and decodes it, or reads a decoupling.

    Args:
        path: file that `Plan.save` or `Decoupling.save` wrote, or a name, see `Plan.load`.
        backbone: to be cut; None leaves it unchecked.
        num_blocks: K.

    Raises:
        UserError: if the file is neither, or not for this backbone and K.
    """
    path = plan_file(path)
    found = json_file.load(path, Plan, Decoupling, ignored=RETIRED_FIELDS)
    if isinstance(found, Decoupling):
        return Decoupling.load(path, backbone, num_blocks)
    return Plan.load(path, backbone).decode(num_blocks)


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    total = math.fsum(powers)
    return tuple(power / total for power in powers)
