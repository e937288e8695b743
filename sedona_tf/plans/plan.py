"""A plan: the scores that a search found, reusable for any number of blocks."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans.decode import decode
from sedona_tf.plans.decoupling import Decoupling
from sedona_tf.plans.fields import (
    Matrix,
    Units,
    candidate_name,
    candidate_options,
    is_name,
    json_dict,
    matrix,
    unit_shapes,
)
from sedona_tf.shipped import plan_file

__all__ = ["Plan", "load_decoupling"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The result of one search over a backbone with L units and M candidates.

    Attributes:
        backbone: name of the architecture, for example `"resnet18"`.
        units: name and output shape (without the batch) of every unit, `(L,)` pairs: the
            fingerprint of the architecture; `Plan.fingerprint` makes it.
        candidates: the M auxiliary nets on offer, as `Candidate.to_dict` gives them.
        alpha: `(L-1, 2)` logits of every unit but the last; columns local, backprop.
        beta: `(L-1, M)` logits of the candidates.
        provenance: JSON-ready: recipe, seed, steps, versions, dataset.

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

    backbone: str
    units: Units
    candidates: tuple[dict[str, Any], ...]
    alpha: Matrix
    beta: Matrix
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_name(self.backbone):
            raise ValueError(f"backbone must be a printable name. Received: {self.backbone!r:.80}")
        candidates = candidate_options(self.candidates)
        units = unit_shapes(self.units)
        tidy = {
            "units": units,
            "candidates": candidates,
            "alpha": matrix("alpha", self.alpha, len(units) - 1, 2),
            "beta": matrix("beta", self.beta, len(units) - 1, len(candidates)),
            "provenance": json_dict("provenance", self.provenance),
        }
        for name, value in tidy.items():
            object.__setattr__(self, name, value)

    @classmethod
    def indifferent(cls, backbone: str, units: Units, candidates: Sequence[dict[str, Any]]) -> Plan:
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
    def fingerprint(backbone: Any) -> Units:
        """Name and output shape, without the batch, of every unit of a `Backbone`."""
        return unit_shapes([(unit.name, list(unit.output_shape[1:])) for unit in backbone.units])

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
    def candidate_weights(self) -> Matrix:
        """`(L-1, M)`, softmax(beta) of every unit but the last."""
        return tuple(_softmax(row) for row in self.beta)

    def decode(self, num_blocks: int) -> Decoupling:
        """Where to cut for so many blocks: after the most probable units.

        See `sedona_tf.plans.decode.decode`; `sedona_tf.profile.cost_aware.decode` weighs the
        scores against measured costs.

        Args:
            num_blocks: K, from 1 to L.

        Raises:
            UserError: if K is out of range.
        """
        return decode(self, num_blocks)

    def require_architecture(self, backbone: Any) -> None:
        """Refuses a `Backbone` other than the one that was searched.

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
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data = document.pack(content, "plan")
        with atomic_write(path) as file:
            file.write(data)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backbone: Any = None) -> Plan:
        """Reads a plan and refuses what is not exactly one.

        Args:
            path: file that `save` wrote, or the name of a plan that comes with the package, such
                as `"fashion_mnist_resnet18"`.
            backbone: a `Backbone`; if given, the plan must be for its architecture.

        Returns:
            The plan, floats bit for bit as saved.

        Raises:
            UserError: one line naming the file and what is wrong with it.
        """
        path = plan_file(path)
        if document.kind_of(path) == "decoupling":
            raise UserError(f"'{path}' is a decoupling; its cuts are made. This needs a plan.")
        fields = {field.name for field in dataclasses.fields(cls)}
        content = document.unpack(path, fields, "plan")
        try:
            plan = cls(**content)
            if backbone is not None:
                plan.require_architecture(backbone)
        except ValueError as error:
            raise UserError(f"plan '{path}': {error}") from error
        return plan


def load_decoupling(path: str | os.PathLike[str], backbone: Any, num_blocks: int) -> Decoupling:
    """Reads a plan and decodes it, or reads a decoupling.

    Args:
        path: file that `Plan.save` or `Decoupling.save` wrote, or a name, see `Plan.load`.
        backbone: the `Backbone` to be cut; None leaves it unchecked.
        num_blocks: K.

    Raises:
        UserError: if the file is neither, or not for this backbone and K.
    """
    path = plan_file(path)
    if document.kind_of(path) == "decoupling":
        return Decoupling.load(path, backbone, num_blocks)
    return Plan.load(path, backbone).decode(num_blocks)


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    total = math.fsum(powers)
    return tuple(power / total for power in powers)
