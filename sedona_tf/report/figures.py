"""Figures of searches and trainings: PNG files, TensorBoard's image, SVG inside the page.

A `draw_` function fills matplotlib axes. All three kinds of pictures are made of them.
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sedona_tf.files import atomic_write
from sedona_tf.report.history_columns import TrainingColumns, search_columns, training_columns

__all__ = [
    "COLOURS",
    "block_colours",
    "draw_candidate_weights",
    "draw_cut_probability",
    "draw_errors",
    "draw_final_probability",
    "draw_losses",
    "draw_outer_loss",
    "heat_map",
    "own_style",
    "search_report",
    "svg_element",
    "training_curves",
]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's palette: told apart with any colour vision."""
HATCHES = ("", "//", "..", "xx")
"""One for each turn of the palette."""
HEAD_COLOUR, TRAINING_COLOUR, RATE_COLOUR = COLOURS[5], "0.45", COLOURS[2]
SMOOTHED_WINDOWS = 60
"""A curve is smoothed over this fraction of its length, so a short one is not smoothed."""
LABELLED_BARS = 20
"""With fewer bars, each shows its value."""


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Draws alike everywhere, whatever a user's matplotlibrc or style says."""
    # Imported here, as in all functions: commands that draw nothing start without matplotlib.
    import matplotlib
    import matplotlib.style

    settings: dict[Any, Any] = {
        "text.parse_math": False,  # names may have dollar signs
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
    }
    with matplotlib.style.context("default"), matplotlib.rc_context(settings):
        yield


@own_style()
def search_report(path: str | os.PathLike[str], history: Mapping[str, Any], title: str) -> None:
    """Draws three panels as a PNG: cut probabilities, candidate weights, outer loss.

    Args:
        path: the file, for example `report.png`; an existing one is replaced at once or not at
            all.
        history: as for `search_columns`, and `candidate_names`, M words. Of the candidate weights,
            the last step is shown.
        title: headline, for example the recipe and the backbone.

    Raises:
        ValueError: if the shapes do not fit together.
        UserError: if the file cannot be written.
    """
    columns = search_columns(history)
    names, weights = history["candidate_names"], columns.candidate_weights[-1]
    if weights.shape[1] != len(names):
        raise ValueError(f"candidate_weights are of {weights.shape[1]}, not {len(names)} names.")
    figure = _figure(max(9.0, 2.0 + 0.2 * len(weights)), 10.5)
    figure.suptitle(title, wrap=True)
    heat, bars, line = figure.subplots(3, 1, height_ratios=(1.25, 1.1, 0.9))
    draw_cut_probability(heat, columns.steps, columns.cut_probability)
    heat.set_title("Cut probability")
    draw_candidate_weights(bars, weights, names)
    bars.set_title("Candidate weights at the last step")
    draw_outer_loss(line, columns.steps, columns.outer_loss)
    line.set_title("Outer loss: validation loss after the unrolled steps")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


@own_style()
def training_curves(
    path: str | os.PathLike[str], history: Mapping[str, Sequence[float]], title: str
) -> None:
    """Draws two or three panels over epochs as a PNG: losses, errors, learning rate if recorded.

    Args:
        path: the file, for example `curves.png`; an existing one is replaced at once or not at
            all.
        history: as for `training_columns`.
        title: headline, for example the network and the data set.

    Raises:
        ValueError: if the columns do not fit together.
        UserError: if the file cannot be written.
    """
    columns = training_columns(history)
    heights = [1.3, 1.0] if columns.learning_rate is None else [1.3, 1.0, 0.5]
    figure = _figure(9.0, 3.6 * sum(heights))
    figure.suptitle(title, wrap=True)
    loss, error, *rest = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_losses(loss, columns)
    loss.set_title("Loss of each block")
    draw_errors(error, columns)
    error.set_title("Error of the head")
    if columns.val_error is not None and np.isfinite(columns.val_error[-1]):
        last = f"{100 * columns.val_error[-1]:.2f} %"
        error.set_title(f"Error of the head (validation, at the end: {last})")
    for axes in rest:
        axes.plot(columns.epoch, columns.learning_rate, **_line(RATE_COLOUR, columns.epoch))
        axes.set_title("Learning rate")
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0)
        _epochs(axes)
    loss.set_xlim(0, 1.01 * np.max([*columns.epoch, *columns.val_epoch]) or 1)
    for axes in (loss, error):
        axes.tick_params(labelbottom=True)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


@own_style()
def heat_map(steps: Sequence[int], probability: Sequence[np.ndarray]) -> np.ndarray:
    """Draws the cut probabilities so far as an image.

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
    axes = figure.add_axes((0.09, 0.5 / inches, 0.76, 1 - 0.85 / inches))
    draw_cut_probability(axes, np.asarray(steps, float), values)
    axes.set_title("Cut probability")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@own_style()
def svg_element(
    draw: Callable[[Any], None],
    name: str,
    label: str,
    *,
    width: float = 4.4,
    height: float = 3.0,
) -> str:
    """Draws one panel as an `svg` element of an HTML page.

    Args:
        draw: given axes, draws.
        name: unlike any other picture's on the page; equal pictures and names give equal elements.
        label: what a reader hears who does not see the picture.
        width, height: of the panel without its legend, in inches.
    """
    import matplotlib

    figure = _figure(width, height)
    axes = figure.add_subplot()
    draw(axes)
    if legend := axes.get_legend():
        figure.set_figheight(height + legend.get_window_extent().height / figure.dpi)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=200, metadata=nothing)
    _, _, content = buffer.getvalue().partition("<svg ")
    # The groups of all figures have the same ids; those that are referred to depend on `name`.
    content = re.sub(r'<g id="[^"]*"', "<g", content)
    return f'<svg class="chart" role="img" aria-label="{html.escape(label)}" {content}'


def draw_cut_probability(axes, steps: np.ndarray, probability: np.ndarray) -> None:
    """Draws the cut probabilities `(S, L-1)` over steps `(S,)` as a heat map with a colour bar.

    The colours span the values shown, and at least 0.02.
    """
    low, high = float(np.min(probability)), float(np.max(probability))
    middle = (low + high) / 2
    mesh = axes.pcolormesh(
        _step_edges(steps),
        np.arange(probability.shape[1] + 1) + 0.5,
        probability.T,
        cmap="cividis",
        vmin=min(low, middle - 0.01),
        vmax=max(high, middle + 0.01),
        rasterized=True,
    )
    bar = axes.inset_axes((1.02, 0, 0.03, 1))  # takes no room from the axes: panels line up
    axes.figure.colorbar(mesh, cax=bar, label="cut probability")
    axes.set_xlabel("search step")
    _whole_numbers(axes.xaxis)
    axes.set_ylabel("unit")
    _whole_numbers(axes.yaxis, 12)
    axes.invert_yaxis()


def draw_final_probability(axes, probability: Sequence[float]) -> None:
    """Draws the cut probability `(L-1,)` of every unit as bars."""
    units = np.arange(1, len(probability) + 1)
    bars = axes.bar(units, probability, color=COLOURS[0])
    if len(units) < LABELLED_BARS:
        axes.bar_label(bars, fmt="%.2f", padding=2)
    axes.set_ylabel("cut probability")
    axes.set_ylim(0, 1.15 * max(probability))
    _unit_axis(axes, len(units))


def draw_candidate_weights(axes, weights: np.ndarray, names: Sequence[str]) -> None:
    """Draws `(L-1, M)` weights of candidates as stacked bars."""
    units = np.arange(1, len(weights) + 1)
    tops = np.cumsum(weights, axis=1)
    for index, name in enumerate(names):
        axes.bar(
            units,
            weights[:, index],
            bottom=tops[:, index] - weights[:, index],
            label=name if len(name) <= 40 else f"{name[:39]}…",
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index // len(COLOURS) % len(HATCHES)],
            edgecolor="white",
            linewidth=0.5,
        )
    axes.set_ylabel("weight, softmax(beta)")
    axes.set_ylim(0, 1)
    _unit_axis(axes, len(units))
    _legend_below(axes)


def draw_outer_loss(axes, steps: np.ndarray, loss: np.ndarray) -> None:
    """Draws the outer loss `(S,)` over steps `(S,)`; NaN leaves a gap."""
    axes.plot(steps, loss, **_line(COLOURS[0], steps))
    axes.set_xlabel("search step")
    _whole_numbers(axes.xaxis)
    axes.set_ylabel("cross-entropy (nats)")
    edges = _step_edges(steps)
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(alpha=0.3)


def draw_losses(axes, columns: TrainingColumns) -> None:
    """Draws each block's loss over epochs, and the head's in validation."""
    num_blocks = len(columns.losses)
    head = f"block {num_blocks} (head)" if num_blocks > 1 else "head"
    labels = [*(f"block {block}" for block in range(1, num_blocks)), head]
    for values, label, colour in zip(
        columns.losses, labels, block_colours(num_blocks), strict=True
    ):
        _plot_smoothed(axes, columns.epoch, values, colour, label)
    validation = np.zeros(0)
    if columns.val_loss is not None:
        validation = columns.val_loss
        line = _line(HEAD_COLOUR, validation) | {"linestyle": "--"}
        axes.plot(columns.val_epoch, validation, **line, label="head, validation")
    axes.set_ylabel("loss")
    axes.set_ylim(*_loss_limits(columns.losses, validation))
    _epochs(axes)
    _legend_below(axes)


def draw_errors(axes, columns: TrainingColumns) -> None:
    """Draws the head's error over epochs, in training and in validation."""
    if columns.accuracy is not None:
        error = 100 * (1 - columns.accuracy)
        _plot_smoothed(axes, columns.epoch, error, TRAINING_COLOUR, "training")
    if columns.val_error is not None:
        line = _line(HEAD_COLOUR, columns.val_error)
        axes.plot(columns.val_epoch, 100 * columns.val_error, **line, label="validation")
    axes.set_ylabel("error (%)")
    axes.set_ylim(bottom=0)
    _epochs(axes)
    if axes.lines:
        _legend_below(axes)


def block_colours(num_blocks: int) -> list[str]:
    """A colour of each of K blocks: a scale, since they have an order, and the head's.

    The scale ends before yellow, which is too pale on white.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["viridis"](np.linspace(0, 0.75, num_blocks - 1))
    return [*map(to_hex, scale), HEAD_COLOUR]


def _figure(width: float, height: float):
    # Not pyplot's, which needs a display and keeps state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _step_edges(steps: np.ndarray) -> np.ndarray:
    """Borders `(S+1,)` between the steps' columns of the heat map, halfway between neighbours."""
    if len(steps) == 1:
        return steps[0] + np.array([-0.5, 0.5])
    middles = (steps[1:] + steps[:-1]) / 2
    return np.array([2 * steps[0] - middles[0], *middles, 2 * steps[-1] - middles[-1]])


def _unit_axis(axes, count: int) -> None:
    axes.set_xlabel("unit")
    axes.set_xlim(0.4, count + 0.6)
    _whole_numbers(axes.xaxis, 25)


def _whole_numbers(axis, most: int = 9) -> None:
    """Puts at most about so many whole numbers on an axis."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True, steps=(1, 2, 5, 10), min_n_ticks=1))


def _epochs(axes) -> None:
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)


def _plot_smoothed(axes, epoch: np.ndarray, values: np.ndarray, colour, label: str) -> None:
    """Draws a curve; a long one pale, with its running mean over it."""
    window = len(values) // SMOOTHED_WINDOWS
    if window >= 2:
        axes.plot(epoch, values, color=colour, linewidth=0.8, alpha=0.2)
        values = _running_mean(values, window)
    axes.plot(epoch, values, **_line(colour, values), label=label)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Means over the last `window` values or as many as there are; NaN counts for nothing."""
    known = np.isfinite(values)
    sums, counts = (
        np.convolve(each, np.ones(window))[: len(values)]
        for each in (np.where(known, values, 0.0), known)
    )
    return np.where(known, sums / np.maximum(counts, 1), np.nan)


def _loss_limits(training: Sequence[np.ndarray], validation: np.ndarray) -> tuple[float, float]:
    """The range of a loss axis, where spikes are cut off.

    It leaves out the highest 0.5 % of each training curve. Validation losses are shown up to
    twice that high, and at least half of them: in the first epochs, when the moving statistics
    are not yet those of the weights, they can be far off.
    """
    curves = [curve[np.isfinite(curve)] for curve in (*training, validation)]
    tops = [np.quantile(curve, 0.995) for curve in curves[:-1] if curve.size]
    known = curves[-1]
    if known.size:
        tops.append(max(np.median(known), min(known.max(), 2 * max(tops, default=0.0))))
    if not tops:
        return 0.0, 1.0
    low, high = min(curve.min() for curve in curves if curve.size), max(tops)
    margin = 0.06 * (high - low) or 0.1
    return max(low - margin, 0.0) if low >= 0 else low - margin, high + margin


def _line(colour, points: np.ndarray) -> dict[str, Any]:
    """How a curve looks; few points are marked."""
    marker = "o" if len(points) <= 40 else None
    return {"color": colour, "linewidth": 1.6, "marker": marker, "markersize": 3}


def _legend_below(axes) -> None:
    """A legend under the axis label, in as many columns as fit."""
    from matplotlib.transforms import ScaledTranslation

    longest = max(map(len, axes.get_legend_handles_labels()[1]))
    columns = int(13 * (axes.figure.get_figwidth() - 0.5)) // (longest + 6)
    below = ScaledTranslation(0, -0.5, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + below,
        ncols=max(1, columns),
        frameon=False,
        fontsize=9,
    )
