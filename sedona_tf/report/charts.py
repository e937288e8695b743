"""Charts of the page: matplotlib's, as SVG inside HTML that follows the page's colours."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from sedona_tf.report.curves import HEAD, TRAINING, block_colours, draw_errors, draw_losses
from sedona_tf.report.plots import (
    COLOURS,
    HATCHES,
    draw_loss,
    draw_probability,
    draw_weights,
    number_units,
    own_style,
    probability_limits,
)

__all__ = [
    "Chart",
    "error_chart",
    "final_chart",
    "loss_chart",
    "outer_loss_chart",
    "probability_chart",
    "weights_chart",
]

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
WIDE = 20
"""From so many units a chart takes the whole width of the page."""
INKS = {"#000000": "--ink", "#b0b0b0": "--rule", "#ffffff": "--surface", "#737373": "--muted"}


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture and what its colours mean.

    Attributes:
        svg: one `svg` element.
        wide: whether it needs the whole width of the page.
        legend: for each colour a CSS colour, a CSS class and words.
    """

    svg: str
    wide: bool = False
    legend: tuple[tuple[str, str, str], ...] = ()


def probability_chart(identifier: str, steps: np.ndarray, probability: np.ndarray) -> Chart:
    """The heat map of cut probabilities `(S, L-1)` over steps `(S,)`."""
    num_cuts = probability.shape[1]

    def draw(axes) -> None:
        mesh = draw_probability(axes, steps, probability)
        mesh.set_rasterized(True)
        axes.figure.colorbar(mesh, ax=axes, label="cut probability", pad=0.02)

    height = 3.3 if num_cuts < WIDE else 3.3 + 0.06 * (num_cuts - WIDE)
    low, high = probability_limits(probability)
    words = (
        f"Heat map: {num_cuts} units by {len(steps)} search steps, dark is {low:.2f} and yellow is "
        f"{high:.2f}."
    )
    return _chart(identifier, "Cut probability over the search", words, draw, height=height)


def final_chart(identifier: str, probability: Sequence[float]) -> Chart:
    """The cut probability `(L-1,)` of every unit at the end."""

    def draw(axes) -> None:
        units = np.arange(1, len(probability) + 1)
        bars = axes.bar(units, probability, width=0.8, color=COLOURS[0])
        if len(probability) < WIDE:
            axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.set_xlabel("unit")
        axes.set_ylabel("cut probability")
        axes.set_ylim(0, min(1.0, 1.15 * max(probability)))
        axes.set_xlim(0.4, len(probability) + 0.6)
        number_units(axes.xaxis, len(probability), most=30)

    best = int(np.argmax(probability)) + 1
    words = (
        f"One bar a unit. The highest is unit {best}, {max(probability):.3f}; the lowest is "
        f"{min(probability):.3f}."
    )
    return _chart(identifier, "Cut probability at the end", words, draw, wide=len(probability))


def weights_chart(identifier: str, weights: Any, names: Sequence[str]) -> Chart:
    """The candidates' weights `(L-1, M)` of every unit at the end."""
    values = np.asarray(weights, float)

    def draw(axes) -> None:
        draw_weights(axes, values, [f"candidate {n}" for n in range(1, len(names) + 1)])
        axes.get_legend().remove()
        axes.set_ylabel("weight")

    legend = tuple(
        (
            f"var(--c{index % len(COLOURS)})",
            f"turn-{index // len(COLOURS) % len(HATCHES)}",
            name,
        )
        for index, name in enumerate(names)
    )
    words = f"Stacked bars: the weights of {len(names)} candidates for each of {len(values)} units."
    chart = _chart(identifier, "Candidate weights at the end", words, draw, wide=len(values))
    return dataclasses.replace(chart, legend=legend)


def outer_loss_chart(identifier: str, steps: np.ndarray, loss: np.ndarray) -> Chart:
    """The outer loss `(S,)` over steps `(S,)`."""
    known = loss[np.isfinite(loss)]
    words = f"Curve over {len(steps)} steps" + (
        f", from {known[0]:.3f} to {known[-1]:.3f}." if known.size else ", none finite."
    )
    return _chart(identifier, "Outer loss", words, lambda axes: draw_loss(axes, steps, loss))


def loss_chart(identifier: str, num_blocks: int, curves: tuple) -> Chart:
    """Each block's loss over epochs; `curves` are `draw_losses`'s arguments after the axes."""
    words = f"Curves of {num_blocks} block{'s' * (num_blocks > 1)} over epochs."
    return _curves(identifier, "Loss of each block", words, num_blocks, draw_losses, curves)


def error_chart(identifier: str, num_blocks: int, curves: tuple) -> Chart:
    """The head's error over epochs; `curves` are `draw_errors`'s arguments after the axes."""
    words = "Curves of the head's error in per cent over epochs, in training and validation."
    return _curves(identifier, "Error of the head", words, num_blocks, draw_errors, curves)


def _curves(
    identifier: str, title: str, words: str, num_blocks: int, function: Callable, curves: tuple
) -> Chart:
    shades = {
        colour: f"--b{number}" for number, colour in enumerate(block_colours(num_blocks), 1)
    } | {HEAD.lower(): f"--b{num_blocks}"}
    legend = []

    def draw(axes) -> None:
        from matplotlib.colors import to_hex

        function(axes, *curves)
        axes.grid(alpha=0.4)
        axes.set_xlabel("epoch")
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            colour = to_hex(line.get_color())
            name = shades.get(colour) or INKS[to_hex(TRAINING)]
            dashed = "dashed" if line.get_linestyle() == "--" else "line"
            legend.append((f"var({name})", dashed, label))
        if axes.get_legend():
            axes.get_legend().remove()

    chart = _chart(identifier, title, words, draw, shades=shades)
    return dataclasses.replace(chart, legend=tuple(legend))


def _chart(
    identifier: str,
    title: str,
    words: str,
    draw: Callable[[Any], None],
    *,
    height: float = 3.3,
    wide: int = 0,
    shades: dict[str, str] | None = None,
) -> Chart:
    """Draws one panel and hands it over as an element of the page.

    Args:
        identifier: begins all of its ids.
        title, words: what a reader hears who does not see it.
        draw: given axes, draws.
        height: in inches.
        wide: how many bars stand side by side.
        shades: hexadecimal colour to the CSS variable that stands for it.
    """
    from matplotlib.figure import Figure

    spread = wide >= WIDE
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": identifier,
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    buffer = io.BytesIO()
    with own_style(settings):
        figure = Figure(figsize=(11.4 if spread else 5.4, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title("")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, dpi=200, metadata=nothing)
    colours = {colour.lower(): f"--c{index}" for index, colour in enumerate(COLOURS)}
    colours |= INKS | (shades or {})
    return Chart(_inline(buffer.getvalue(), identifier, title, words, colours), spread)


def _inline(data: bytes, identifier: str, title: str, words: str, colours: dict[str, str]) -> str:
    """Makes a file of matplotlib's an element: ids of its own, the page's colours, its words."""
    root = ElementTree.fromstring(data)

    def local(match: re.Match) -> str:
        return f"{match[1]}{identifier}-{match[2]}"

    def themed(match: re.Match) -> str:
        name = colours.get(match[0].lower())
        return f"var({name})" if name else match[0]

    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{identifier}-{value}")
            elif name in ("style", "clip-path"):
                value = re.sub(r"(url\(#)([^)]+)", local, value)
                element.set(name, re.sub(r"(?<!\(|-)#[0-9a-fA-F]{6}\b", themed, value))
            elif name.endswith("href"):
                element.set(name, re.sub(r"^(#)(.+)", local, value))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-label", f"{title}. {words}")
    heading = ElementTree.Element(f"{{{SVG}}}title")
    heading.text = title
    root.insert(0, heading)
    for definitions in root.findall(f"{{{SVG}}}defs"):
        for style in definitions.findall(f"{{{SVG}}}style"):
            definitions.remove(style)  # it would rule the whole page
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")
