"""A network's drawing on the page, with its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sedona_tf.plans import Decoupling
from sedona_tf.report.network_drawing import network_drawing

__all__ = ["network_part"]


def network_part(
    decoupling: Decoupling,
    shapes: Sequence[Sequence[int]],
    probability: Sequence[float] | None = None,
) -> dict[str, Any]:
    """What the template needs of a drawing; arguments as for `network_drawing`."""
    cuts = ", ".join(map(str, decoupling.cut_after))
    words = f"Cut after unit{'s' * (decoupling.num_blocks > 2)} {cuts}." if cuts else "No cut."
    return {
        "blocks": decoupling.num_blocks,
        "svg": network_drawing(decoupling, shapes, probability),
        "words": words,
    }
