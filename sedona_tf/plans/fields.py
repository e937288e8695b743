"""Checks of the fields of plans and decouplings.

What comes in may be any data, what goes out is plain and right. All of them raise `ValueError` with
the name of the field and what is allowed.
"""

from __future__ import annotations

import json
import math
import numbers
from typing import Any

__all__ = [
    "Matrix",
    "Units",
    "candidate_name",
    "candidate_options",
    "is_name",
    "json_dict",
    "matrix",
    "unit_shapes",
]

Matrix = tuple[tuple[float, ...], ...]
Units = tuple[tuple[str, tuple[int, ...]], ...]


def is_name(value: Any) -> bool:
    """Whether the value is text that can be shown on one line."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def unit_shapes(value: Any) -> Units:
    """Checks the fingerprint of an architecture: (name, shape) pairs."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("units must be a list of at least one (name, shape).")
    for number, item in enumerate(value, 1):
        pair = isinstance(item, list | tuple) and len(item) == 2
        if not pair or not is_name(item[0]) or not isinstance(item[1], list | tuple):
            raise ValueError(f"units must be (name, shape) pairs; unit {number} is not.")
        if not all(type(size) is int and 0 < size < 2**31 for size in item[1]):
            raise ValueError(f"units must have shapes of positive integers; unit {number} has not.")
    return tuple((name, tuple(shape)) for name, shape in value)


def candidate_options(
    value: Any, field: str = "candidates", least: int = 1
) -> tuple[dict[str, Any], ...]:
    """Checks auxiliary nets: at least so many objects with a kind and plain options."""
    if not isinstance(value, list | tuple) or len(value) < least:
        raise ValueError(f"{field} must be a list of at least {least} auxiliary nets.")
    for number, item in enumerate(value, 1):
        named = isinstance(item, dict) and is_name(item.get("kind"))
        if not named or not all(map(is_name, item)):
            raise ValueError(f"{field} must be objects with a 'kind'; number {number} is not.")
        for name, option in item.items():
            small = type(option) is int and abs(option) < 2**31
            finite = type(option) is float and math.isfinite(option)
            if not (small or finite or type(option) is bool or is_name(option)):
                raise ValueError(f"{field} must have plain options; '{name}' is not.")
    return tuple(dict(item) for item in value)


def candidate_name(options: dict[str, Any]) -> str:
    """An auxiliary net in words, for example `separable(depth=2)`; as `str(Candidate)` has it."""
    listed = ", ".join(f"{name}={value}" for name, value in options.items() if name != "kind")
    return f"{options['kind']}({listed})" if listed else options["kind"]


def matrix(name: str, value: Any, rows: int, columns: int) -> Matrix:
    """Checks a `(rows, columns)` array or nest of finite numbers."""

    def sized(item: Any, size: int) -> bool:
        listed = isinstance(item, list | tuple) or hasattr(item, "__array__")
        return listed and len(item) == size

    if not sized(value, rows) or not all(sized(row, columns) for row in value):
        raise ValueError(f"{name} must have the shape ({rows}, {columns}).")
    return tuple(tuple(_finite(name, number) for number in row) for row in value)


def _finite(name: str, value: Any) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError(f"{name} must hold finite numbers only.")


def json_dict(name: str, value: Any) -> dict[str, Any]:
    """A deep copy in which tuples are lists, as they come back from a file."""
    try:
        if isinstance(value, dict):
            return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON-ready: {error}") from error
    raise ValueError(f"{name} must be a dictionary.")
