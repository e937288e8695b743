"""The space of auxiliary nets: what a search may offer and a tuner may choose."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from sedona_tf.auxiliary.registry import Candidate, kinds
from sedona_tf.errors import UserError, unknown_name

if TYPE_CHECKING:
    from keras_tuner import HyperParameters

__all__ = ["AuxiliarySpace"]


@dataclasses.dataclass(frozen=True)
class AuxiliarySpace:
    """All combinations of the values that each field allows.

    A field but the first is an option; it counts for the kinds that have it, see `kinds`.

    Attributes:
        kind: kinds of auxiliary nets.
        depth: of separable nets.
        width_ratio: share of the unit's channels that separable nets work at; 0.0 is the
            backbone's own, as in the paper.
        features: channels before a separable net's classifier.
        kernel: sides of the depthwise kernels, in pixels; odd.
        loss: local losses of separable nets, `"cross_entropy"` or `"predsim"`. A search needs
            candidates of one loss; a tuner does not.

    Raises:
        UserError: if a field is empty, holds a value twice or one that is not allowed.

    Example:
        >>> space = AuxiliarySpace(kind=("separable", "mlp_sr"), depth=(1, 2), kernel=(3, 5))
        >>> print(*space.enumerate(), sep="; ")
        separable(depth=1); separable(depth=1, kernel=5); separable(depth=2); \
separable(depth=2, kernel=5); mlp_sr
    """

    kind: tuple[str, ...] = ("separable",)
    depth: tuple[int, ...] = (1, 2, 3, 4)
    width_ratio: tuple[float, ...] = (0.0,)
    features: tuple[int, ...] = (512,)
    kernel: tuple[int, ...] = (3,)
    loss: tuple[str, ...] = ("cross_entropy",)

    def __post_init__(self) -> None:
        for name in ("kind", *_options()):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not values:
                raise UserError(
                    f"{name} must be a tuple of at least one value. Received: {values!r:.80}"
                )
            if any(list(values).count(value) > 1 for value in values):
                raise UserError(f"{name} must hold no value twice. Received: {values!r:.80}")
            object.__setattr__(self, name, tuple(values))
        for kind in self.kind:
            if str(kind) not in kinds:
                raise UserError(unknown_name("kind of auxiliary network", str(kind), list(kinds)))
        for name in _options():
            for kind in self._kinds_with(name):
                option = kinds[kind].options[name]
                if option.type is float:  # as (0, 1) on a command line
                    whole = [float(v) if type(v) is int else v for v in getattr(self, name)]
                    object.__setattr__(self, name, tuple(whole))
                for value in getattr(self, name):
                    option.check(name, value)

    def declare(self, hp: HyperParameters, prefix: str = "") -> Candidate:
        """Declares the space as hyperparameters and reads the candidate that they stand for.

        A field of one value is a `Fixed`, which tuners leave alone; the others are a `Choice`.
        An option is active only where the kind has it.

        Args:
            hp: gets `kind` and the options' names, or has them already.
            prefix: goes before each name, for example `"unit_1/"`.

        Returns:
            The candidate at the values of `hp`.
        """
        kind = _choose(hp, f"{prefix}kind", self.kind)
        options = {}
        for name in _options():
            having = self._kinds_with(name)
            if having:
                with hp.conditional_scope(f"{prefix}kind", having):
                    value = _choose(hp, f"{prefix}{name}", getattr(self, name))
                if kind in having:
                    options[name] = value
        return Candidate(kind, tuple(options.items()))

    def enumerate(self) -> tuple[Candidate, ...]:
        """All candidates, each once: kind by kind, the later fields varying fastest."""
        result = []
        for kind in self.kind:
            names = [name for name in _options() if name in kinds[kind].options]
            for values in itertools.product(*(getattr(self, name) for name in names)):
                result.append(Candidate(kind, tuple(zip(names, values, strict=True))))
        return tuple(result)

    def sample(self, count: int, seed: int) -> tuple[Candidate, ...]:
        """Distinct candidates drawn at random, in the order of `enumerate`.

        Args:
            count: M.
            seed: what decides which.

        Raises:
            UserError: if there are fewer.
        """
        everything = self.enumerate()
        if not 1 <= count <= len(everything):
            raise UserError(
                f"candidates must be between 1 and {len(everything)}, all that the space of "
                f"auxiliary nets holds. Received: {count}"
            )
        chosen = np.random.default_rng(seed).choice(len(everything), count, replace=False)
        return tuple(everything[index] for index in sorted(chosen))

    def _kinds_with(self, option: str) -> list[str]:
        return [kind for kind in self.kind if option in kinds[kind].options]


def _options() -> list[str]:
    """The fields that are options."""
    return [field.name for field in dataclasses.fields(AuxiliarySpace)][1:]


def _choose(hp: HyperParameters, name: str, values: tuple) -> Any:
    return hp.Choice(name, list(values)) if len(values) > 1 else hp.Fixed(name, values[0])
