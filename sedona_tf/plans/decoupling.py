"""A decoupling: where a network is cut, and what closes each block."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from sedona_tf import json_file
from sedona_tf.errors import UserError
from sedona_tf.json_file import Json, Name, PositiveInt
from sedona_tf.plans.architecture import Backbone
from sedona_tf.shipped import plan_file

__all__ = [
    "RETIRED_FIELDS",
    "AuxiliaryOptions",
    "Decoupling",
    "Tie",
    "candidate_name",
    "require_kinds",
]

AuxiliaryOptions = dict[Name, bool | Annotated[int, Meta(gt=-(2**31), lt=2**31)] | float | Name]
"""An auxiliary net: its `kind` and its options, as `Candidate.to_dict` gives them."""

RETIRED_FIELDS = ("num_blocks",)
"""What decouplings of earlier versions state besides; it follows from the cuts."""


def candidate_name(options: AuxiliaryOptions) -> str:
    """An auxiliary net in words, for example `separable(depth=2)`; as `str(Candidate)` has it."""
    listed = ", ".join(f"{name}={value}" for name, value in options.items() if name != "kind")
    return f"{options['kind']}({listed})" if listed else str(options["kind"])


def require_kinds(field: str, nets: Sequence[AuxiliaryOptions]) -> None:
    """Refuses auxiliary nets without a kind.

    Raises:
        ValueError: naming the field and the first such net.
    """
    for number, options in enumerate(nets, 1):
        if not isinstance(options.get("kind"), str):
            raise ValueError(f"{field} must have a 'kind' each; number {number} has none.")


class Tie(json_file.Checked, frozen=True):
    """A choice that another search could have made differently.

    Attributes:
        unit: 1-based unit whose auxiliary net it is about; None if it is about where to cut.
        chosen: units (from 1) or names of auxiliary nets that were taken.
        rivals: those as good as these that were not.

    Example:
        >>> print(Tie(unit=None, chosen=(2,), rivals=(3, 5)))
        cut after unit 2 as good as after 3, 5
    """

    unit: PositiveInt | None
    chosen: tuple[PositiveInt | Name, ...]
    rivals: tuple[PositiveInt | Name, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        right = int if self.unit is None else str
        if not all(isinstance(item, right) for item in (*self.chosen, *self.rivals)):
            raise ValueError("ties must be between units if unit is null, else between names.")

    def __str__(self) -> str:
        chosen, rivals = (", ".join(map(str, items)) for items in (self.chosen, self.rivals))
        if self.unit is None:
            return f"cut after unit {chosen} as good as after {rivals}"
        return f"after unit {self.unit}, {chosen} as good as {rivals}"


class Decoupling(json_file.Checked, frozen=True, tag_field="format", tag="sedona_tf.decoupling"):
    """Where to cut a backbone of L units into K blocks, and the auxiliary net closing each.

    With the backbone it is all that a decoupled model is built from:
    `build_auxiliary(Candidate.from_dict(auxiliary[k]), backbone, cut_after[k] - 1, name)`.

    Attributes:
        backbone: name of the architecture, for example `"resnet50"`.
        num_units: L.
        cut_after: `(K-1,)` 1-based unit numbers, rising, all below L.
        auxiliary: `(K-1,)` auxiliary nets at these cuts.
        ties: what was decided by the tie-break.
        provenance: where it comes from.

    Raises:
        ValueError: if a field is not so.

    Example:
        >>> net = {"kind": "separable", "depth": 4}
        >>> Decoupling("toy", num_units=8, cut_after=(3,), auxiliary=(net,)).blocks()
        [(1, 3), (4, 8)]
    """

    backbone: Name
    num_units: PositiveInt
    cut_after: tuple[PositiveInt, ...]
    auxiliary: tuple[AuxiliaryOptions, ...]
    ties: tuple[Tie, ...] = ()
    provenance: Mapping[str, Json] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        cuts = self.cut_after
        if list(cuts) != sorted(set(cuts)) or (cuts and cuts[-1] >= self.num_units):
            raise ValueError(
                f"cut_after must rise and stay below num_units, {self.num_units}. "
                f"Received: {str(list(cuts)):.80}"
            )
        require_kinds("auxiliary", self.auxiliary)
        if len(self.auxiliary) != len(cuts):
            raise ValueError(
                f"auxiliary must hold one net for each of the {len(cuts)} cuts. "
                f"Received: {len(self.auxiliary)}"
            )

    @property
    def num_blocks(self) -> int:
        """K, the number of blocks."""
        return len(self.cut_after) + 1

    def blocks(self) -> list[tuple[int, int]]:
        """The blocks as `(first, last)` 1-based units, both inclusive."""
        edges = (0, *self.cut_after, self.num_units)
        return [(edges[i] + 1, edges[i + 1]) for i in range(self.num_blocks)]

    def require(self, backbone: Backbone | None = None, num_blocks: int | None = None) -> None:
        """Refuses another architecture or another number of blocks than this decoupling's.

        The architecture is its name and number of units. Shapes do not count: what was found for
        small images serves the same network with another stem, width or image size.

        Args:
            backbone: to be cut, if any.
            num_blocks: the K that is wanted, if any.

        Raises:
            UserError: saying what differs.
        """
        if backbone is not None:
            name, num_units = backbone.name, len(backbone.units)
            if (name, num_units) != (self.backbone, self.num_units):
                raise UserError(
                    f"the decoupling is for {self.backbone} with {self.num_units} units. "
                    f"Received: {name} with {num_units}"
                )
        if num_blocks is not None and num_blocks != self.num_blocks:
            raise UserError(
                f"the decoupling is for {self.num_blocks} blocks. Received: {num_blocks}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decoupling:
        """Reads what `to_dict` wrote, that of earlier versions included.

        Raises:
            ValueError: naming the field that is wrong.
        """
        try:
            return cls(**{name: data[name] for name in data if name not in RETIRED_FIELDS})
        except TypeError as error:
            raise ValueError(f"no decoupling: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the decoupling as JSON, all or nothing.

        Raises:
            UserError: if it cannot be written; a file that was there is then untouched.
        """
        json_file.save(path, self)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backbone: Backbone | None = None,
        num_blocks: int | None = None,
    ) -> Decoupling:
        """Reads a decoupling and refuses what is not exactly one.

        Args:
            path: file that `save` wrote, edited or not, or the name of a decoupling that comes with
                the package, such as `"published/resnet50_k4"`.
            backbone: if given, the decoupling must be for it (see `require`).
            num_blocks: K; if given, the decoupling must have so many blocks.

        Returns:
            The decoupling.

        Raises:
            UserError: one line naming the file and what is wrong with it.
        """
        path = plan_file(path)
        result = json_file.load(path, cls, ignored=RETIRED_FIELDS)
        try:
            result.require(backbone, num_blocks)
        except UserError as error:
            raise UserError(f"decoupling '{path}': {error}") from error
        return result
