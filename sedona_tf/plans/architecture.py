"""What plans know of a network: the names and output shapes of its units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

from msgspec import Meta

from sedona_tf.json_file import Name, PositiveInt

__all__ = ["Backbone", "Unit", "Units"]

Units = Annotated[tuple[tuple[Name, tuple[PositiveInt, ...]], ...], Meta(min_length=1)]
"""`(L,)` name and output shape, without the batch, of every unit."""


class Unit(Protocol):
    """What is needed of a unit, such as a `keras.Model`."""

    @property
    def name(self) -> str: ...

    @property
    def output_shape(self) -> Sequence[int]:
        """With the batch first, whose size does not count."""


class Backbone(Protocol):
    """What is needed of a network; `sedona_tf.backbones.Backbone` is one."""

    @property
    def name(self) -> str: ...

    @property
    def units(self) -> Sequence[Unit]: ...
