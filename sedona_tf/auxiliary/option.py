"""An option of a kind of auxiliary network: its type, its values, its default."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sedona_tf.errors import UserError

__all__ = ["NO_DEFAULT", "Option"]

NO_DEFAULT = object()
"""Default of an option that cannot be left out."""


@dataclasses.dataclass(frozen=True)
class Option:
    """What values an option may have.

    Attributes:
        type: `int`, `float` or `str`, exactly; what a plan file can hold.
        allowed: the values in words, as errors name them.
        accepts: whether a value of this type is one of them.
        default: what leaving the option out means; `NO_DEFAULT` if it cannot be left out.

    Example:
        >>> Option(int, "a positive int", lambda value: value > 0, default=3).required
        False
    """

    type: type
    allowed: str
    accepts: Callable[[Any], bool]
    default: Any = NO_DEFAULT

    @property
    def required(self) -> bool:
        """Whether a candidate must have it."""
        return self.default is NO_DEFAULT

    def check(self, name: str, value: Any) -> None:
        """Refuses a value that is not allowed.

        Args:
            name: what the error calls the option.
            value: of any type.

        Raises:
            UserError: then.
        """
        if type(value) is not self.type or not self.accepts(value):
            raise UserError(f"{name} must be {self.allowed}. Received: {value!r:.80}")
