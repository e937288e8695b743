"""The network as a chain of units in coloured blocks, with the cuts and what closes each block."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from xml.etree import ElementTree

from sedona_tf.plans import Decoupling
from sedona_tf.plans.fields import candidate_name
from sedona_tf.report.formats import times

__all__ = ["network_drawing"]

WIDTH = 1030
"""Pixels of a row; longer chains go on in the next."""
CHARACTER = 7.2
"""Pixels that a character of the small text takes at most, on average."""
MARGIN, GAP, APART = 12, 20, 8
"""Pixels at the edges, between units and between classifiers."""
LABEL, UNIT, PADDING, LINK, LINE, SPACE = 22, 44, 7, 14, 15, 18
"""Heights of a row's parts: label of a block, unit, the group's padding, the link down to the
classifier, a line of its text, and the space below."""


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where things are: `columns` units a row, `pitch` pixels from one to the next."""

    columns: int
    pitch: float
    tops: tuple[float, ...]
    height: float

    def place(self, unit: int) -> tuple[float, float]:
        """Left and top of the box of a unit, counted from 0."""
        row, column = divmod(unit, self.columns)
        return MARGIN + GAP / 2 + column * self.pitch, self.tops[row] + LABEL + PADDING

    @property
    def box(self) -> float:
        return self.pitch - GAP


def network_drawing(
    decoupling: Decoupling,
    shapes: Sequence[Sequence[int]],
    probability: Sequence[float] | None = None,
) -> str:
    """Draws a decoupled network as one `svg` element.

    Boxes of units have the class `unit`, dashed lines between blocks the class `cut`, the boxes of
    auxiliary nets and of the head `classifier`; block k has the colour of the CSS variable `--bk`.

    Args:
        decoupling: of a backbone of L units into K blocks.
        shapes: `(L,)` output shapes of the units.
        probability: `(L-1,)` cut probabilities, to be shown at the cuts.

    Example:
        >>> net = {"kind": "separable", "depth": 4}
        >>> svg = network_drawing(Decoupling("toy", 3, (2,), (net,)), [(8, 8, 4)] * 3)
        >>> svg.count('class="unit"'), svg.count('class="cut"')
        (3, 1)
    """
    num_units = decoupling.num_units
    words = [_cropped(times(shape)) for shape in shapes]
    closed = zip(decoupling.cut_after, decoupling.auxiliary, strict=True)
    notes = {cut: _lines(net) for cut, net in closed}
    if probability is not None:
        notes = {cut: [*lines, f"p = {probability[cut - 1]:.3f}"] for cut, lines in notes.items()}
    notes[num_units] = ["head"]
    grid = _grid(num_units, words, notes)
    blocks = decoupling.blocks()
    svg = _svg(grid, num_units, blocks)
    for number, (first, last) in enumerate(blocks, 1):
        _group(svg, grid, number, first - 1, last - 1)
    for unit in range(num_units):
        if unit + 1 < num_units:
            _arrow(svg, grid, unit)
        _unit(svg, grid, unit, words[unit])
    for number, (_, last) in enumerate(blocks, 1):
        name = "head"
        if last < num_units:
            _cut(svg, grid, last - 1)
            name = candidate_name(decoupling.auxiliary[number - 1])
        _classifier(svg, grid, number, last - 1, notes[last], name)
    return ElementTree.tostring(svg, encoding="unicode")


def _lines(net: dict) -> list[str]:
    options = [f"{name} = {value}" for name, value in net.items() if name != "kind"]
    return [_cropped(line) for line in (str(net["kind"]), *options[:3])]


def _cropped(line: str) -> str:
    return line if len(line) <= 16 else f"{line[:15]}…"


def _grid(num_units: int, shapes: Sequence[str], notes: dict[int, list[str]]) -> _Grid:
    lines = [line for each in notes.values() for line in each]
    needed = max(
        64,
        CHARACTER * max(map(len, shapes)) + 6 + GAP,
        CHARACTER * max(map(len, lines)) + 6 + APART,
    )
    columns = min(num_units, max(1, int(WIDTH // needed)))
    columns = math.ceil(num_units / math.ceil(num_units / columns))
    pitch = max(needed, min(126, WIDTH / columns))
    tops, top = [], 0.0
    for first in range(0, num_units, columns):
        tops.append(top)
        row = [lines for unit, lines in notes.items() if first < unit <= first + columns]
        top += LABEL + UNIT + 2 * PADDING + SPACE
        top += max((LINK + 10 + LINE * len(lines) for lines in row), default=0)
    return _Grid(columns, pitch, tuple(tops), top - SPACE + 4)


def _svg(grid: _Grid, num_units: int, blocks: list[tuple[int, int]]) -> ElementTree.Element:
    width, height = round(grid.columns * grid.pitch + 2 * MARGIN), round(grid.height)
    listed = "; ".join(
        f"block {number}: units {first} to {last}" for number, (first, last) in enumerate(blocks, 1)
    )
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "class": "network",
            "role": "img",
            "aria-label": f"Chain of {num_units} units. {listed}.",
        },
    )
    _add(svg, "title", f"{len(blocks)} block{'s' * (len(blocks) > 1)} of {num_units} units")
    return svg


def _add(
    parent: ElementTree.Element, tag: str, text: str = "", **attributes
) -> ElementTree.Element:
    """Adds an element; numbers are rounded, `_` in names stands for `-`, `class_` for `class`."""
    named = {
        name.rstrip("_").replace("_", "-"): f"{value:.1f}"
        if isinstance(value, float)
        else str(value)
        for name, value in attributes.items()
    }
    child = ElementTree.SubElement(parent, tag, named)
    child.text = text or None
    return child


def _group(svg: ElementTree.Element, grid: _Grid, number: int, first: int, last: int) -> None:
    """The coloured ground of a block, one piece a row, with its number."""
    unit = first
    while unit <= last:
        end = min(last, unit - unit % grid.columns + grid.columns - 1)
        x, y = grid.place(unit)
        right = grid.place(end)[0] + grid.box
        _add(
            svg,
            "rect",
            class_="block",
            style=f"--b: var(--b{number})",
            x=x - PADDING,
            y=y - PADDING,
            width=right - x + 2.0 * PADDING,
            height=UNIT + 2 * PADDING,
            rx=10,
        )
        room = (right - x + 2 * PADDING) / CHARACTER
        label = f"block {number}" if room >= 8 else str(number)
        if unit > first:
            label = f"block {number}, continued" if room >= 19 else f"{number} …"
        _add(
            svg,
            "text",
            label,
            class_="label",
            style=f"--b: var(--b{number})",
            x=x - PADDING + 1,
            y=y - PADDING - 6,
        )
        unit = end + 1


def _unit(svg: ElementTree.Element, grid: _Grid, unit: int, shape: str) -> None:
    x, y = grid.place(unit)
    middle = x + grid.box / 2
    _add(svg, "rect", class_="unit", x=x, y=y, width=grid.box, height=UNIT, rx=6)
    _add(svg, "text", str(unit + 1), class_="number", x=middle, y=y + (19 if shape else 28))
    if shape:
        _add(svg, "text", shape, class_="small", x=middle, y=y + 35)


def _arrow(svg: ElementTree.Element, grid: _Grid, unit: int) -> None:
    """The features' way to the next unit, at the end of a row half of it."""
    x, y = grid.place(unit)
    start, middle = x + grid.box + 1, y + UNIT / 2
    _add(svg, "path", class_="way", d=f"M{start:.1f} {middle:.1f}h{GAP - 3}m-4 -3l4 3l-4 3")


def _cut(svg: ElementTree.Element, grid: _Grid, unit: int) -> None:
    """The line that no gradient crosses."""
    x, y = grid.place(unit)
    middle = x + grid.box + GAP / 2
    _add(
        svg,
        "line",
        class_="cut",
        x1=middle,
        x2=middle,
        y1=float(y - PADDING - 12),
        y2=float(y + UNIT + PADDING + 8),
    )


def _classifier(
    svg: ElementTree.Element, grid: _Grid, number: int, unit: int, lines: list[str], name: str
) -> None:
    """What the last unit of a block is trained by."""
    x, y = grid.place(unit)
    middle, top = x + grid.box / 2, y + UNIT + PADDING + LINK
    style = f"--b: var(--b{number})"
    _add(svg, "path", class_="link", style=style, d=f"M{middle:.1f} {top - LINK:.1f}v{LINK}")
    wide = grid.pitch - APART
    box = _add(
        svg,
        "rect",
        class_="classifier",
        style=style,
        x=middle - wide / 2,
        y=float(top),
        width=wide,
        height=8 + LINE * len(lines),
        rx=5,
    )
    _add(box, "title", name)
    for index, line in enumerate(lines):
        _add(svg, "text", line, class_="small", x=middle, y=float(top + 15 + LINE * index))
