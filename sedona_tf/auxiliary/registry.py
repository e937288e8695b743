"""Kinds of auxiliary networks, and the candidates made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from sedona_tf.auxiliary.losses import cross_entropy
from sedona_tf.auxiliary.mlp_sr import mlp_sr
from sedona_tf.auxiliary.option import Option
from sedona_tf.auxiliary.predsim import predsim, predsim_loss
from sedona_tf.auxiliary.separable import FEATURES, separable
from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.effects import refuse_losses, refuse_unseeded, side_effects
from sedona_tf.backbones.part import build_part
from sedona_tf.errors import UserError, unknown_name

__all__ = [
    "Candidate",
    "Kind",
    "build_auxiliary",
    "candidates_from",
    "check_candidates",
    "kinds",
    "register",
]

Outputs = Any
"""A tensor or a nest of tensors; a mixture of candidates adds it up leaf by leaf."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """How an auxiliary network is built, and its loss.

    Attributes:
        define: `(features, num_classes=, narrow=, **options)` to symbolic outputs, with every
            option given; its name counts and initialisers are its own business. Outputs of all
            candidates of one search must have one structure, since the local output is their
            weighted sum.
        loss: `(outputs, labels, smoothing)` to a scalar; the local loss. Only `cross_entropy` is
            smoothed. Any other gets 0, in a search and in training.
        logits: `outputs` to class logits `(batch, num_classes)`, for early exits and ensembles.
        options: name to what a plan file may give it. One called `loss` names a key of
            `LOCAL_LOSSES`, which takes the place of this loss and these logits.

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
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    @property
    def has_own_loss(self) -> bool:
        """Whether the local loss is not `cross_entropy`."""
        return self.loss is not cross_entropy


kinds: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    """Adds a kind of auxiliary network.

    Raises:
        ValueError: if the name is taken.
    """
    if name in kinds:
        raise UserError(f"name '{name}' is taken by another kind of auxiliary network.")
    kinds[name] = kind


class LocalLoss(NamedTuple):
    """A loss and how it finds the logits among the outputs; as in `Kind`."""

    loss: Callable[[Outputs, tf.Tensor, float], tf.Tensor]
    logits: Callable[[Outputs], tf.Tensor]


LOCAL_LOSSES = {
    "cross_entropy": LocalLoss(cross_entropy, lambda outputs: outputs),
    "predsim": LocalLoss(predsim_loss, lambda outputs: outputs["logits"]),
}
"""Local losses by name."""

SEPARABLE_OPTIONS = {
    "depth": Option(int, "a positive int", lambda value: value >= 1),
    "width_ratio": Option(
        float, "a float in (0, 1], or 0.0", lambda value: 0 <= value <= 1, default=0.0
    ),
    "features": Option(int, "a positive int", lambda value: value >= 1, default=FEATURES),
    "kernel": Option(
        int, "a positive odd int", lambda value: value >= 1 and value % 2 == 1, default=3
    ),
    "loss": Option(
        str, " or ".join(LOCAL_LOSSES), LOCAL_LOSSES.__contains__, default="cross_entropy"
    ),
}
"""Options of separable nets, see `separable`; the defaults are the paper's."""

register("separable", Kind(separable, *LOCAL_LOSSES["cross_entropy"], SEPARABLE_OPTIONS))
register("mlp_sr", Kind(mlp_sr, *LOCAL_LOSSES["cross_entropy"]))
register("predsim", Kind(predsim, *LOCAL_LOSSES["predsim"]))


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One auxiliary network on offer: a kind and its options, in a form that a plan can hold.

    Options are kept in alphabetical order and without those at their default, so candidates that
    mean the same are equal.

    Example:
        >>> str(Candidate("separable", (("kernel", 3), ("depth", 2))))
        'separable(depth=2)'
    """

    kind: str
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in kinds:
            raise UserError(unknown_name("kind of auxiliary network", self.kind, list(kinds)))
        allowed = kinds[self.kind].options
        given = dict(self.options)
        for name, value in given.items():
            if name not in allowed:
                raise UserError(unknown_name(f"option of '{self.kind}'", name, list(allowed)))
            allowed[name].check(f"option '{name}' of '{self.kind}'", value)
        missing = sorted(n for n, option in allowed.items() if option.required and n not in given)
        if missing:
            raise UserError(f"'{self.kind}' needs the option '{missing[0]}'.")
        kept = {n: value for n, value in given.items() if value != allowed[n].default}
        object.__setattr__(self, "options", tuple(sorted(kept.items())))

    @property
    def settings(self) -> dict[str, Any]:
        """All options of the kind, those at their default included."""
        options = kinds[self.kind].options
        return {name: option.default for name, option in options.items()} | dict(self.options)

    @property
    def resolved_kind(self) -> Kind:
        """The kind, with the loss and the logits that this candidate has."""
        kind, loss = kinds[self.kind], self.settings.get("loss")
        return kind if loss is None else dataclasses.replace(kind, **LOCAL_LOSSES[loss]._asdict())

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
        return cls(str(data.get("kind")), tuple(options.items()))


def candidates_from(data: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
    """Reads the candidates of a search; see `check_candidates`."""
    return check_candidates([Candidate.from_dict(item) for item in data])


def check_candidates(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates of a search, which must share one loss and differ from one another.

    Raises:
        UserError: if there is none, if two are equal or if their losses differ.
    """
    candidates = tuple(candidates)
    if not candidates:
        raise UserError("candidates must name at least one auxiliary network. Received: none")
    if len(set(candidates)) < len(candidates):
        raise UserError(f"candidates must differ. Received: {', '.join(map(str, candidates))}")
    if len({candidate.resolved_kind.loss for candidate in candidates}) > 1:
        raise UserError("candidates must share one local loss; search each loss separately.")
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

    Raises:
        UserError: naming a layer of the kind that adds a loss, or draws random numbers without a
            `SeedGenerator` of its own.
    """
    part = build_part(
        name,
        backbone.units[unit].output_shape[1:],
        lambda x: kinds[candidate.kind].define(
            x,
            num_classes=backbone.num_classes,
            narrow=backbone.narrow_auxiliary,
            **candidate.settings,
        ),
    )
    effects = side_effects(part)
    refuse_losses(part, effects)
    refuse_unseeded(part, effects)
    return part
