"""A decoupling: where a network is cut, and what closes each block."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans.fields import candidate_options, is_name, json_dict
from sedona_tf.shipped import plan_file

__all__ = ["Decoupling", "Tie"]


@dataclasses.dataclass(frozen=True)
class Tie:
    """A choice that another search could have made differently.

    Attributes:
        unit: 1-based unit whose auxiliary net it is about; None if it is about where to cut.
        chosen: units (from 1) or names of auxiliary nets that were taken.
        rivals: those as good as these that were not.

    Example:
        >>> print(Tie(unit=None, chosen=(2,), rivals=(3, 5)))
        cut after unit 2 as good as after 3, 5
    """

    unit: int | None
    chosen: tuple[int | str, ...]
    rivals: tuple[int | str, ...]

    def __str__(self) -> str:
        chosen, rivals = (", ".join(map(str, items)) for items in (self.chosen, self.rivals))
        if self.unit is None:
            return f"cut after unit {chosen} as good as after {rivals}"
        return f"after unit {self.unit}, {chosen} as good as {rivals}"

    def to_dict(self) -> dict[str, Any]:
        """The tie as JSON-ready data."""
        return {"unit": self.unit, "chosen": list(self.chosen), "rivals": list(self.rivals)}

    @classmethod
    def from_dict(cls, data: Any) -> Tie:
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: if it is anything else.
        """
        if isinstance(data, Mapping) and data.keys() == {"unit", "chosen", "rivals"}:
            unit, chosen, rivals = data["unit"], data["chosen"], data["rivals"]
            right = is_name if unit is not None else _is_count
            if (unit is None or _is_count(unit)) and all(
                isinstance(items, list | tuple) and all(map(right, items))
                for items in (chosen, rivals)
            ):
                return cls(unit, tuple(chosen), tuple(rivals))
        raise ValueError("ties must be objects with 'unit', 'chosen' and 'rivals'.")


@dataclasses.dataclass(frozen=True)
class Decoupling:
    """Where to cut a backbone of L units into K blocks, and the auxiliary net closing each.

    With the backbone it is all that a decoupled model is built from:
    `build_auxiliary(Candidate.from_dict(auxiliary[k]), backbone, cut_after[k] - 1, name)`.

    Attributes:
        backbone: name of the architecture, for example `"resnet50"`.
        num_units: L.
        cut_after: `(K-1,)` 1-based unit numbers, rising, all below L.
        auxiliary: `(K-1,)` auxiliary nets at these cuts, as `Candidate.to_dict` gives them.
        ties: what was decided by the tie-break.
        provenance: JSON-ready: where it comes from.

    Raises:
        ValueError: if a field is not so.

    Example:
        >>> net = {"kind": "separable", "depth": 4}
        >>> Decoupling("toy", num_units=8, cut_after=(3,), auxiliary=(net,)).blocks()
        [(1, 3), (4, 8)]
    """

    backbone: str
    num_units: int
    cut_after: tuple[int, ...]
    auxiliary: tuple[dict[str, Any], ...]
    ties: tuple[Tie, ...] = ()
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_name(self.backbone):
            raise ValueError(f"backbone must be a printable name. Received: {self.backbone!r:.80}")
        if not _is_count(self.num_units):
            raise ValueError("num_units must be a whole number from 1.")
        cuts = self.cut_after
        if not isinstance(cuts, list | tuple) or not all(map(_is_count, cuts)):
            raise ValueError("cut_after must be a list of whole numbers from 1.")
        if list(cuts) != sorted(set(cuts)) or (cuts and cuts[-1] >= self.num_units):
            raise ValueError(
                f"cut_after must rise and stay below num_units, {self.num_units}. "
                f"Received: {str(list(cuts)):.80}"
            )
        auxiliary = candidate_options(self.auxiliary, "auxiliary", least=0)
        if len(auxiliary) != len(cuts):
            raise ValueError(
                f"auxiliary must hold one net for each of the {len(cuts)} cuts. "
                f"Received: {len(auxiliary)}"
            )
        object.__setattr__(self, "cut_after", tuple(cuts))
        object.__setattr__(self, "auxiliary", auxiliary)
        object.__setattr__(self, "ties", tuple(self.ties))
        object.__setattr__(self, "provenance", json_dict("provenance", self.provenance))

    @property
    def num_blocks(self) -> int:
        """K, the number of blocks."""
        return len(self.cut_after) + 1

    def blocks(self) -> list[tuple[int, int]]:
        """The blocks as `(first, last)` 1-based units, both inclusive."""
        edges = (0, *self.cut_after, self.num_units)
        return [(edges[i] + 1, edges[i + 1]) for i in range(self.num_blocks)]

    def require(self, backbone: Any = None, num_blocks: int | None = None) -> None:
        """Refuses another architecture or another number of blocks than this decoupling's.

        The architecture is its name and number of units. Shapes do not count: what was found for
        small images serves the same network with another stem, width or image size.

        Args:
            backbone: a `Backbone` to be cut, if any.
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

    def to_dict(self) -> dict[str, Any]:
        """The decoupling as JSON-ready data, a copy."""
        return {
            "backbone": self.backbone,
            "num_units": self.num_units,
            "num_blocks": self.num_blocks,
            "cut_after": list(self.cut_after),
            "auxiliary": [dict(options) for options in self.auxiliary],
            "ties": [tie.to_dict() for tie in self.ties],
            "provenance": json_dict("provenance", self.provenance),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decoupling:
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: naming the field that is wrong.
        """
        content = dict(data)
        if content.keys() != FIELDS:
            raise ValueError(f"a decoupling must have the fields {', '.join(sorted(FIELDS))}.")
        stated, ties = content.pop("num_blocks"), content.pop("ties")
        if not isinstance(ties, list | tuple):
            raise ValueError("ties must be a list.")
        result = cls(**content, ties=tuple(map(Tie.from_dict, ties)))
        if type(stated) is not int or stated != result.num_blocks:
            raise ValueError(
                f"num_blocks must be {result.num_blocks}, one more than there are cuts."
            )
        return result

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the decoupling as JSON, all or nothing.

        Raises:
            UserError: if it cannot be written; a file that was there is then untouched.
        """
        data = document.pack(self.to_dict(), "decoupling")
        with atomic_write(path) as file:
            file.write(data)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], backbone: Any = None, num_blocks: int | None = None
    ) -> Decoupling:
        """Reads a decoupling and refuses what is not exactly one.

        Args:
            path: file that `save` wrote, or the name of a decoupling that comes with the package,
                such as `"published/resnet50_k4"`.
            backbone: a `Backbone`; if given, the decoupling must be for it (see `require`).
            num_blocks: K; if given, the decoupling must have so many blocks.

        Returns:
            The decoupling.

        Raises:
            UserError: one line naming the file and what is wrong with it.
        """
        path = plan_file(path)
        content = document.unpack(path, FIELDS, "decoupling")
        try:
            result = cls.from_dict(content)
            result.require(backbone, num_blocks)
        except ValueError as error:
            raise UserError(f"decoupling '{path}': {error}") from error
        return result


FIELDS = {field.name for field in dataclasses.fields(Decoupling)} | {"num_blocks"}
"""Of a decoupling's data."""


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31
