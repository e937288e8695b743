"""Kinds of auxiliary networks behind one contract, and the candidates made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from sedona_tf.auxiliary.losses import cross_entropy
from sedona_tf.auxiliary.mlp_sr import mlp_sr
from sedona_tf.auxiliary.predsim import predsim, predsim_loss
from sedona_tf.auxiliary.separable import separable
from sedona_tf.backbones.backbone import Backbone, build_part
from sedona_tf.errors import UserError, unknown_name

__all__ = ["Candidate", "Kind", "build_auxiliary", "candidates_from", "kinds", "register"]

Outputs = Any
"""A tensor or a nest of tensors; a mixture of candidates adds it up leaf by leaf."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What an auxiliary network has to say for itself.

    Attributes:
        define: `(features, num_classes=, narrow=, **options)` to symbolic outputs; its name counts
            and initialisers are its own business. Outputs of all candidates of one search must
            have one structure, since the local output is their weighted sum.
        loss: `(outputs, labels, smoothing)` to a scalar; the local loss.
        logits: `outputs` to class logits `(batch, num_classes)`, for early exits and ensembles.
        options: option name to the type that a plan file may give it.

    Example: a linear classifier of the mean features.
        >>> def linear(x, *, num_classes, narrow):
        ...     x = keras.layers.GlobalAveragePooling2D()(x)
        ...     return keras.layers.Dense(num_classes)(x)
        >>> register("linear", Kind(linear, cross_entropy, lambda outputs: outputs, options={}))
        >>> str(Candidate("linear"))
        'linear'
        >>> del kinds["linear"]
    """

    define: Callable[..., Outputs]
    loss: Callable[[Outputs, tf.Tensor, float], tf.Tensor]
    logits: Callable[[Outputs], tf.Tensor]
    options: Mapping[str, type]


kinds: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    """Adds a kind of auxiliary network.

    Raises:
        ValueError: if the name is taken.
    """
    if name in kinds:
        raise UserError(f"name '{name}' is taken by another kind of auxiliary network.")
    kinds[name] = kind


register(
    "separable",
    Kind(separable, cross_entropy, logits=lambda outputs: outputs, options={"depth": int}),
)
register("mlp_sr", Kind(mlp_sr, cross_entropy, logits=lambda outputs: outputs, options={}))
register(
    "predsim",
    Kind(predsim, predsim_loss, logits=lambda outputs: outputs["logits"], options={}),
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One auxiliary network on offer: a kind and its options, in a form that a plan can hold.

    Example:
        >>> str(Candidate("separable", (("depth", 2),)))
        'separable(depth=2)'
    """

    kind: str
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in kinds:
            raise UserError(unknown_name("kind of auxiliary network", self.kind, list(kinds)))
        allowed = kinds[self.kind].options
        for name, value in self.options:
            if name not in allowed:
                raise UserError(unknown_name(f"option of '{self.kind}'", name, list(allowed)))
            if type(value) is not allowed[name] or (isinstance(value, int) and value < 1):
                raise UserError(
                    f"option '{name}' of '{self.kind}' must be a positive "
                    f"{allowed[name].__name__}. Received: {value!r}"
                )
        missing = sorted(set(allowed) - dict(self.options).keys())
        if missing:
            raise UserError(f"'{self.kind}' needs the option '{missing[0]}'.")

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.kind}({options})" if options else self.kind

    def to_dict(self) -> dict[str, Any]:
        """The candidate as JSON-ready data, for example `{"kind": "separable", "depth": 2}`."""
        return {"kind": self.kind, **dict(self.options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Candidate:
        """Reads what `to_dict` wrote."""
        options = {name: value for name, value in data.items() if name != "kind"}
        return cls(str(data.get("kind")), tuple(sorted(options.items())))


def candidates_from(data: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
    """Reads the candidates of a search, which must share one loss and differ from one another.

    Raises:
        ValueError: if there is none, if two are equal or if their losses differ.
    """
    candidates = tuple(Candidate.from_dict(item) for item in data)
    if not candidates:
        raise UserError("candidates must name at least one auxiliary network. Received: none")
    if len(set(candidates)) < len(candidates):
        raise UserError(f"candidates must differ. Received: {', '.join(map(str, candidates))}")
    if len({kinds[candidate.kind].loss for candidate in candidates}) > 1:
        raise UserError("candidates must share one local loss; mix kinds in separate searches.")
    return candidates


def build_auxiliary(candidate: Candidate, backbone: Backbone, unit: int, name: str) -> keras.Model:
    """Builds the auxiliary network for the output of one unit.

    Args:
        candidate: which.
        backbone: the network that it serves.
        unit: index of the unit from 0.
        name: name of the part.

    Returns:
        A model from the unit's output to the kind's outputs.
    """
    return build_part(
        name,
        backbone.units[unit].output_shape[1:],
        lambda x: kinds[candidate.kind].define(
            x,
            num_classes=backbone.num_classes,
            narrow=backbone.narrow_auxiliary,
            **dict(candidate.options),
        ),
    )
