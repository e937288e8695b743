"""How figures are written on the page."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["percent", "thousands", "times"]


def percent(fraction: float | None) -> str:
    """An error as per cent, without the sign.

    Example:
        >>> percent(0.1138), percent(None)
        ('11.38', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def thousands(value: float | None) -> str:
    """A count or rate, whole from 100, with commas.

    Example:
        >>> thousands(2257.7), thousands(60_000), thousands(3.14159)
        ('2,258', '60,000', '3.1')
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def times(sizes: Sequence[int]) -> str:
    """A shape.

    Example:
        >>> times((8, 8, 4))
        '8×8×4'
    """
    return "×".join(map(str, sizes))
