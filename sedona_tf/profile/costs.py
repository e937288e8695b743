"""What the parts of a network cost on a device, and so what blocks of them cost."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence

import msgspec

from sedona_tf import json_file
from sedona_tf.errors import UserError
from sedona_tf.json_file import Amount, Name, PositiveInt, WholeNumber
from sedona_tf.plans import AuxiliaryOptions, Decoupling, Plan, Units

__all__ = ["COSTS_FILE", "Costs", "PartCost", "require_no_costs", "total"]

COSTS_FILE = "costs.json"
"""Name of a profile's costs in its folder."""


class PartCost(json_file.Checked, frozen=True):
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

    forward_s: Amount = 0.0
    backward_s: Amount = 0.0
    update_s: Amount = 0.0
    activation_bytes: WholeNumber = 0
    output_bytes: WholeNumber = 0
    parameter_bytes: WholeNumber = 0
    flops: WholeNumber = 0
    spread: Amount = 0.0

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


class Costs(json_file.Checked, frozen=True, tag_field="format", tag="sedona_tf.costs"):
    """Costs of a backbone with L units and M candidates at every unit but the last.

    Attributes:
        backbone: name of the architecture.
        units: its fingerprint, see `Plan`.
        candidates: the M auxiliary nets.
        batch_size: images that all figures are for.
        device: description of the device that they were measured on.
        unit_costs: `(L,)`.
        auxiliary_costs: `(L-1, M)`.
        head_cost: of the head.

    Raises:
        ValueError: if a field has a wrong type or shape or a number is negative or not finite.
    """

    backbone: Name
    units: Units
    candidates: tuple[AuxiliaryOptions, ...]
    batch_size: PositiveInt
    device: Name
    unit_costs: tuple[PartCost, ...]
    auxiliary_costs: tuple[tuple[PartCost, ...], ...]
    head_cost: PartCost

    def __post_init__(self) -> None:
        super().__post_init__()
        num_cuts, num_candidates = self.num_units - 1, len(self.candidates)
        if len(self.unit_costs) != self.num_units:
            raise ValueError(f"unit_costs must have {self.num_units} entries.")
        if [len(row) for row in self.auxiliary_costs] != [num_candidates] * num_cuts:
            raise ValueError(f"auxiliary_costs must be ({num_cuts}, {num_candidates}) parts.")

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
        return msgspec.structs.replace(cost, output_bytes=self.unit_costs[last - 1].output_bytes)

    def blocks(self, cut_after: Sequence[int], candidates: Sequence[int]) -> list[PartCost]:
        """The K blocks of a decoupling; see `Decoupling.cut_after` and `auxiliary`."""
        edges = itertools.pairwise((0, *cut_after, self.num_units))
        closing = [*candidates, None]
        return [
            self.block(low + 1, high, candidate)
            for (low, high), candidate in zip(edges, closing, strict=True)
        ]

    def of(self, decoupling: Decoupling) -> list[PartCost]:
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

    def require(self, plan: Plan) -> None:
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
        json_file.save(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Costs:
        """Reads what `save` wrote.

        Raises:
            UserError: one line naming the file and what is wrong with it.
        """
        return json_file.load(path, cls)


def require_no_costs(folder: str | os.PathLike[str]) -> None:
    """Refuses a folder with an earlier profile.

    Raises:
        UserError: naming the folder.
    """
    if os.path.lexists(os.path.join(folder, COSTS_FILE)):
        raise UserError(f"{folder} holds a profile already; pass another --workdir.")
