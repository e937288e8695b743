"""What the parts of a network cost on a device, and so what blocks of them cost."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans.fields import Units, candidate_options, unit_shapes

__all__ = ["COSTS_FILE", "Costs", "PartCost", "require_no_costs", "total"]

COSTS_FILE = "costs.json"
"""Name of a profile's costs in its folder."""
MOST = 1e300
"""Of any figure of a part, so that sums stay finite."""


@dataclasses.dataclass(frozen=True)
class PartCost:
    """What a part (a unit, an auxiliary net, the head, or several of them) costs for one batch.

    Attributes:
        forward_s: seconds of its forward pass.
        backward_s: seconds of its backward pass, gradients of inputs and weights.
        update_s: seconds of the optimizer's update of its weights.
        activation_bytes: what its forward pass keeps for the backward pass.
        output_bytes: what it hands on.
        parameter_bytes: its trainable weights.
        flops: of its forward pass, see `sedona_tf.profile.counts.count`.
        spread: interquartile range of forward and backward pass together, of their median.
    """

    forward_s: float = 0.0
    backward_s: float = 0.0
    update_s: float = 0.0
    activation_bytes: int = 0
    output_bytes: int = 0
    parameter_bytes: int = 0
    flops: int = 0
    spread: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = field.type == "int"
            if type(value) not in ((int,) if whole else (int, float)) or not 0 <= value <= MOST:
                raise ValueError(f"{field.name} must be a finite number from 0.")

    @classmethod
    def from_dict(cls, data: Any) -> PartCost:
        """Reads what `dataclasses.asdict` made.

        Raises:
            ValueError: if it is anything else.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, dict) or data.keys() != names:
            raise ValueError(f"a part's cost must be an object of {', '.join(sorted(names))}.")
        return cls(**data)

    @property
    def seconds(self) -> float:
        """Of a training step."""
        return self.forward_s + self.backward_s + self.update_s

    @property
    def resident_bytes(self) -> int:
        """At the peak of its training step: weights, gradients and momentum, activations."""
        return 3 * self.parameter_bytes + self.activation_bytes


def total(parts: Iterable[PartCost]) -> PartCost:
    """What parts cost that run one after the other; hands on what the last one does.

    The spread is that of the whole if the parts vary together, so the larger of what it can be.
    """
    parts = list(parts)
    names = ["forward_s", "backward_s", "update_s", "activation_bytes", "parameter_bytes", "flops"]
    sums = {name: sum(getattr(part, name) for part in parts) for name in names}
    weights = [part.forward_s + part.backward_s for part in parts]
    spread = sum(p.spread * w for p, w in zip(parts, weights, strict=True)) / (sum(weights) or 1.0)
    return PartCost(**sums, output_bytes=parts[-1].output_bytes if parts else 0, spread=spread)


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of a backbone with L units and M candidates at every unit but the last.

    Attributes:
        backbone: name of the architecture.
        units: its fingerprint, see `Plan`.
        candidates: the M auxiliary nets, as `Candidate.to_dict` gives them.
        batch_size: images that all figures are for.
        device: where they were measured, in words.
        unit_costs: `(L,)`.
        auxiliary_costs: `(L-1, M)`.
        head_cost: of the head.

    Raises:
        ValueError: if a field has a wrong type or shape or a number is negative or not finite.
    """

    backbone: str
    units: Units
    candidates: tuple[dict[str, Any], ...]
    batch_size: int
    device: str
    unit_costs: tuple[PartCost, ...]
    auxiliary_costs: tuple[tuple[PartCost, ...], ...]
    head_cost: PartCost

    def __post_init__(self) -> None:
        units, candidates = unit_shapes(self.units), candidate_options(self.candidates, least=0)
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise ValueError("batch_size must be a whole number from 1.")
        if not isinstance(self.backbone, str) or not isinstance(self.device, str):
            raise ValueError("backbone and device must be names.")
        read = {
            "unit_costs": _parts("unit_costs", self.unit_costs, len(units)),
            "auxiliary_costs": tuple(
                _parts("auxiliary_costs", row, len(candidates))
                for row in _rows(self.auxiliary_costs, len(units) - 1)
            ),
            "head_cost": _parts("head_cost", [self.head_cost], 1)[0],
        }
        for name, value in {"units": units, "candidates": candidates, **read}.items():
            object.__setattr__(self, name, value)

    @property
    def num_units(self) -> int:
        """L."""
        return len(self.units)

    def block(self, first: int, last: int, candidate: int | None = None) -> PartCost:
        """A block's cost: units `first` to `last`, from 1, and what closes it.

        Args:
            first: the block's lowest unit.
            last: its highest unit, inclusive.
            candidate: index of its auxiliary net; the last block has the head instead.

        Returns:
            The sum; `output_bytes` are those of the last unit, which the next block takes in.

        Raises:
            UserError: if a block before the last has no candidate.
        """
        if last == self.num_units:
            closing = self.head_cost
        elif candidate is None:
            raise UserError(f"a block that ends after unit {last} needs a candidate.")
        else:
            closing = self.auxiliary_costs[last - 1][candidate]
        cost = total([*self.unit_costs[first - 1 : last], closing])
        return dataclasses.replace(cost, output_bytes=self.unit_costs[last - 1].output_bytes)

    def blocks(self, cut_after: Sequence[int], candidates: Sequence[int]) -> list[PartCost]:
        """The K blocks of a decoupling; see `Decoupling.cut_after` and `auxiliary`."""
        edges = itertools.pairwise((0, *cut_after, self.num_units))
        closing = [*candidates, None]
        return [
            self.block(low + 1, high, candidate)
            for (low, high), candidate in zip(edges, closing, strict=True)
        ]

    def of(self, decoupling: Any) -> list[PartCost]:
        """The costs of a `Decoupling`'s blocks.

        Raises:
            UserError: if one of its auxiliary nets was not measured.
        """
        if (decoupling.backbone, decoupling.num_units) != (self.backbone, self.num_units):
            raise UserError(
                f"the costs are of {self.backbone} with {self.num_units} units. "
                f"Received: {decoupling.backbone} with {decoupling.num_units}"
            )
        for options in decoupling.auxiliary:
            if options not in self.candidates:
                raise UserError(f"the costs have no auxiliary net {options!r:.80}.")
        chosen = [self.candidates.index(options) for options in decoupling.auxiliary]
        return self.blocks(decoupling.cut_after, chosen)

    def require(self, plan: Any) -> None:
        """Refuses a `Plan` for another architecture or with other candidates.

        Raises:
            UserError: saying what differs.
        """
        if self.units != plan.units:
            raise UserError(f"the costs are of another network than the plan's {plan.backbone}.")
        if self.candidates != plan.candidates:
            raise UserError("the costs are of other candidates than the plan's.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the costs as JSON, all or nothing.

        Raises:
            UserError: if it cannot be written; a file that was there is then untouched.
        """
        content = dataclasses.asdict(self)
        with atomic_write(path) as file:
            file.write(document.pack(content, "costs"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Costs:
        """Reads what `save` wrote.

        Raises:
            UserError: one line naming the file and what is wrong with it.
        """
        content = document.unpack(path, {field.name for field in dataclasses.fields(cls)}, "costs")
        try:
            return cls(**content)
        except ValueError as error:
            raise UserError(f"costs '{path}': {error}") from error


def require_no_costs(folder: str | os.PathLike[str]) -> None:
    """Refuses a folder with an earlier profile.

    Raises:
        UserError: naming the folder.
    """
    if os.path.lexists(os.path.join(folder, COSTS_FILE)):
        raise UserError(f"{folder} holds a profile already; pass another --workdir.")


def _rows(value: Any, count: int) -> list:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(f"auxiliary_costs must have {count} rows.")
    return list(value)


def _parts(name: str, value: Any, count: int) -> tuple[PartCost, ...]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(f"{name} must have {count} entries.")
    return tuple(each if isinstance(each, PartCost) else PartCost.from_dict(each) for each in value)
