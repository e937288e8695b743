"""The pictures of a search: what was decided, where, and how the validation loss went."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sedona_tf.files import atomic_write

__all__ = [
    "COLOURS",
    "checked_history",
    "draw_loss",
    "draw_probability",
    "draw_weights",
    "heat_map",
    "number_units",
    "own_style",
    "probability_limits",
    "search_report",
]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's palette: told apart with any colour vision."""
HATCHES = ("", "//", "..", "xx")
"""One for each turn of the palette."""


@contextlib.contextmanager
def own_style(settings: dict[Any, Any] | None = None) -> Iterator[None]:
    """Draws with matplotlib's own defaults, whatever a user's matplotlibrc or style says.

    Args:
        settings: what differs from them.
    """
    # Imported here: commands that draw nothing start without it.
    import matplotlib
    import matplotlib.style

    with matplotlib.style.context("default"), matplotlib.rc_context(settings):
        yield


@own_style()
def search_report(path: str | os.PathLike[str], history: Mapping[str, Any], title: str) -> None:
    """Draws three panels as a PNG: cut probabilities, candidate weights, outer loss.

    Args:
        path: the file, for example `report.png`; an existing one is replaced at once or not at
            all.
        history: `steps` (S,) rising; `cut_probability` (S, L-1); `candidate_weights`
            (S, L-1, M), of which the last step is shown; `outer_loss` (S,), where NaN leaves a
            gap; `candidate_names`, M words.
        title: headline, for example the recipe and the backbone.

    Raises:
        ValueError: if the shapes do not fit together.
        UserError: if the file cannot be written.
    """
    steps, probability, weights, loss, names = checked_history(history)
    # A Figure of one's own, not pyplot's, needs no display and leaves no state behind.
    from matplotlib.figure import Figure

    num_cuts = probability.shape[1]
    figure = Figure(figsize=(max(9.0, 2.0 + 0.2 * num_cuts), 10.0), layout="constrained")
    figure.suptitle(title, wrap=True)
    # The colour bar has a column of its own, so that the steps of the panels line up.
    grid = figure.add_gridspec(3, 2, height_ratios=(1.25, 1.1, 0.9), width_ratios=(1, 0.02))
    heat, bars, line = (figure.add_subplot(grid[row, 0]) for row in range(3))
    mesh = draw_probability(heat, steps, probability)
    figure.colorbar(mesh, cax=figure.add_subplot(grid[0, 1]), label="p(cut after unit)")
    draw_weights(bars, weights[-1], names)
    draw_loss(line, steps, loss)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


@own_style()
def heat_map(steps: Sequence[int], probability: Sequence[np.ndarray]) -> np.ndarray:
    """Draws the cut probabilities so far.

    Args:
        steps: `(S,)`, rising.
        probability: `(S, L-1)`.

    Returns:
        An image `(height, width, 3)` uint8, of a size that L alone decides.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = np.asarray(probability, float)
    inches = 1.6 + 0.12 * max(values.shape[1], 12)
    figure = Figure(figsize=(6.4, inches), dpi=100)
    canvas = FigureCanvasAgg(figure)
    # Placed by hand: a layout engine takes longer than all the rest, and a search waits.
    bottom, height = 0.5 / inches, 1 - 0.85 / inches
    axes = figure.add_axes((0.09, bottom, 0.76, height))
    mesh = draw_probability(axes, np.asarray(steps, float), values)
    bar = figure.add_axes((0.87, bottom, 0.03, height))
    figure.colorbar(mesh, cax=bar, label="p(cut after unit)")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def checked_history(
    history: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The history that `search_report` takes, as arrays, in the order in which it lists them.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    steps = np.asarray(history["steps"], float)
    probability = np.asarray(history["cut_probability"], float)
    weights = np.asarray(history["candidate_weights"], float)
    loss = np.asarray(history["outer_loss"], float)
    names = [str(name) for name in history["candidate_names"]]
    if steps.ndim != 1 or not steps.size or np.any(np.diff(steps) <= 0):
        raise ValueError("history['steps'] must be at least one rising number.")
    if probability.ndim != 2 or len(probability) != len(steps) or not probability.shape[1]:
        raise ValueError(
            f"history['cut_probability'] must have the shape ({len(steps)}, L-1), L from 2. "
            f"Received: {probability.shape}"
        )
    expected = (*probability.shape, len(names))
    if weights.shape != expected:
        raise ValueError(
            f"history['candidate_weights'] must have the shape {expected}. "
            f"Received: {weights.shape}"
        )
    if loss.shape != steps.shape:
        raise ValueError(
            f"history['outer_loss'] must have the shape {steps.shape}. Received: {loss.shape}"
        )
    if not names:
        raise ValueError("history['candidate_names'] must hold at least one name.")
    return steps, probability, weights, loss, names


def draw_probability(axes, steps: np.ndarray, probability: np.ndarray):
    """Draws `(S, L-1)` probabilities as a heat map; returns what a colour bar needs."""
    num_cuts = probability.shape[1]
    low, high = probability_limits(probability)
    units = np.arange(num_cuts + 1) + 0.5
    mesh = axes.pcolormesh(_edges(steps), units, probability.T, cmap="cividis", vmin=low, vmax=high)
    axes.set_title("Cut probability")
    axes.set_xlabel("search step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("unit")
    number_units(axes.yaxis, num_cuts, most=20)
    axes.invert_yaxis()
    return mesh


def probability_limits(probability: np.ndarray) -> tuple[float, float]:
    """A heat map's scale: from the lowest to the highest value, 0.02 apart or more."""
    low, high = float(np.min(probability)), float(np.max(probability))
    middle = (low + high) / 2
    return min(low, middle - 0.01), max(high, middle + 0.01)


def draw_weights(axes, weights: np.ndarray, names: Sequence[str]) -> None:
    """Draws `(L-1, M)` weights as stacked bars, with a legend below."""
    units = np.arange(1, len(weights) + 1)
    bottom = np.zeros(len(weights))
    for index, name in enumerate(names):
        axes.bar(
            units,
            weights[:, index],
            bottom=bottom,
            width=0.8,
            label=name,
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index // len(COLOURS) % len(HATCHES)],
            edgecolor="white",
            linewidth=0.5,
        )
        bottom += weights[:, index]
    axes.set_title("Candidate weights at the last step")
    axes.set_xlabel("unit")
    axes.set_ylabel("softmax(beta)")
    axes.set_ylim(0, 1)
    axes.set_xlim(0.4, len(weights) + 0.6)
    number_units(axes.xaxis, len(weights), most=50)
    fitting = int(13 * (axes.figure.get_figwidth() - 1.5)) // (max(map(len, names)) + 6)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=min(len(names), max(1, fitting)),
        frameon=False,
        fontsize=9,
    )


def draw_loss(axes, steps: np.ndarray, loss: np.ndarray) -> None:
    """Draws the outer loss `(S,)`."""
    axes.plot(steps, loss, color=COLOURS[0], marker="o" if len(steps) <= 40 else None, ms=3)
    axes.set_title("Outer loss: validation loss after the unrolled steps")
    axes.set_xlabel("search step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("cross-entropy (nats)")
    edges = _edges(steps)
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(alpha=0.3)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Borders (S+1,) between the steps' columns of the heat map, halfway between neighbours."""
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middles = (steps[1:] + steps[:-1]) / 2
    return np.concatenate(
        [[1.5 * steps[0] - 0.5 * steps[1]], middles, [1.5 * steps[-1] - 0.5 * steps[-2]]]
    )


def number_units(axis, count: int, most: int) -> None:
    """Puts whole unit numbers on an axis, at most so many."""
    stride = next(n for n in (1, 2, 5, 10, 20, 50, 100, count) if count <= n * most or n == count)
    axis.set_ticks([n for n in range(1, count + 1) if n % stride == 0 or n == 1 and stride != 2])
    if count > 25 and stride == 1:
        axis.set_tick_params(labelsize=7)
