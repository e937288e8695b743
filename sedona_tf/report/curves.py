"""The pictures of a training run: each block's loss, the head's error, the learning rate."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sedona_tf.files import atomic_write
from sedona_tf.report.plots import COLOURS, own_style

__all__ = ["block_colours", "checked_curves", "draw_errors", "draw_losses", "training_curves"]

WINDOWS = 60
"""A long curve is averaged over windows of so manieth of its length; the raw one stays, pale."""
HEAD, TRAINING = COLOURS[5], "0.45"
BLOCK_NAME = re.compile(r"block_(\d+)_loss")


@own_style()
def training_curves(
    path: str | os.PathLike[str], history: Mapping[str, Sequence[float]], title: str
) -> None:
    """Draws two or three panels over epochs as a PNG: losses, errors, learning rate if recorded.

    Args:
        path: the file, for example `curves.png`; an existing one is replaced at once or not at
            all.
        history: lists of numbers, where NaN leaves a gap. Of training, of one length S: `step`
            (rising) and `epoch` (float), `loss` (the head's), for K > 1 `block_1_loss`, ...,
            `block_{K-1}_loss`, and if wanted `accuracy` (0 to 1) and `learning_rate`. Of
            validation, of one length, all or none: `val_step` (rising), `val_epoch`, `val_error`
            (0 to 1), and `val_loss`. Other lists are not looked at.
        title: headline, for example the network and the data set.

    Raises:
        ValueError: if the lists do not fit together.
        UserError: if the file cannot be written.
    """
    epoch, training = checked_curves(history, "")
    val_epoch, validation = checked_curves(history, "val_")
    # Imported here: commands that draw nothing start without it, see `search_report`.
    from matplotlib.figure import Figure

    heights = [1.3, 1.0, 0.5] if "learning_rate" in training else [1.3, 1.0]
    figure = Figure(figsize=(9.0, 3.4 * sum(heights)), layout="constrained")
    figure.suptitle(title, wrap=True)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_losses(panels[0], epoch, training, val_epoch, validation)
    draw_errors(panels[1], epoch, training, val_epoch, validation)
    if "learning_rate" in training:
        panels[2].plot(epoch, training["learning_rate"], **_line(COLOURS[2], len(epoch)))
        panels[2].set_title("Learning rate")
        panels[2].set_ylabel("learning rate")
        panels[2].set_ylim(bottom=0)
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.tick_params(labelbottom=True)
    panels[-1].set_xlabel("epoch")
    panels[-1].set_xlim(0, 1.01 * np.max([*epoch, *val_epoch]) or 1)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


def checked_curves(
    history: Mapping[str, Any], prefix: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The epochs and the other lists of one part of what `training_curves` takes.

    Args:
        history: as there.
        prefix: `"val_"` or `""`; taken off the names.

    Raises:
        ValueError: if the lists do not fit together.
    """
    part = {
        name.removeprefix(prefix): np.asarray(values, float)
        for name, values in history.items()
        if name.startswith("val_") == bool(prefix)
    }
    if prefix and not any(values.size for values in part.values()):
        return np.zeros(0), {}
    needed = ["step", "epoch", "error" if prefix else "loss"]
    missing = [name for name in needed if name not in part]
    if missing:
        raise ValueError(f"history['{prefix}{missing[0]}'] is missing.")
    step = part.pop("step")
    if step.ndim != 1 or not step.size or np.any(np.diff(step) <= 0):
        raise ValueError(f"history['{prefix}step'] must be at least one rising number.")
    drawn = [
        "epoch",
        "error",
        "loss",
        "accuracy",
        "learning_rate",
        *filter(BLOCK_NAME.fullmatch, part),
    ]
    part = {name: values for name, values in part.items() if name in drawn}
    for name, values in part.items():
        if values.shape != step.shape:
            raise ValueError(
                f"history['{prefix}{name}'] must have the shape {step.shape}. "
                f"Received: {values.shape}"
            )
    return part.pop("epoch"), part


def block_colours(num_blocks: int, low: float = 0.0, high: float = 0.75) -> list[str]:
    """Colours of blocks but the last: they have an order, so they take a part of a scale.

    Args:
        num_blocks: K.
        low, high: ends of the part; the scale's own, at 1, is yellow, too pale on white.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [
        to_hex(colour) for colour in colormaps["viridis"](np.linspace(low, high, num_blocks - 1))
    ]


def draw_losses(axes, epoch, training, val_epoch, validation) -> None:
    """Draws each block's loss and the head's on validation images; arguments are checked."""
    blocks = sorted(
        (int(match[1]), name) for name in training if (match := BLOCK_NAME.fullmatch(name))
    )
    shades = block_colours(len(blocks) + 1)
    curves = [
        (name, f"block {number}", shades[index]) for index, (number, name) in enumerate(blocks)
    ]
    head = f"block {len(blocks) + 1} (head)" if blocks else "head"
    for name, label, colour in [*curves, ("loss", head, HEAD)]:
        _plot(axes, epoch, training[name], colour, label)
    trained = [training[name] for name in ("loss", *(name for name, *_ in curves))]
    if "loss" in validation:
        axes.plot(
            val_epoch,
            validation["loss"],
            **_line(HEAD, len(val_epoch)) | {"linestyle": "--"},
            label="head, validation",
        )
    axes.set_title("Loss of each block")
    axes.set_ylabel("loss")
    axes.set_ylim(*_limits(trained, validation.get("loss", np.zeros(0))))
    _legend(axes)


def draw_errors(axes, epoch, training, val_epoch, validation) -> None:
    """Draws the head's error in training and validation; arguments are checked."""
    title = "Error of the head"
    if "accuracy" in training:
        _plot(axes, epoch, 100 * (1 - training["accuracy"]), TRAINING, "training")
    if "error" in validation:
        error = 100 * validation["error"]
        axes.plot(val_epoch, error, **_line(HEAD, len(error)), label="validation")
        title += f" (validation, at the end: {error[-1]:.2f} %)" if np.isfinite(error[-1]) else ""
    axes.set_title(title)
    axes.set_ylabel("error (%)")
    axes.set_ylim(bottom=0)
    if axes.lines:
        _legend(axes)


def _plot(axes, epoch: np.ndarray, values: np.ndarray, colour, label: str) -> None:
    """A curve, and where it is long enough to be noisy its running mean, the curve then pale."""
    window = len(values) // WINDOWS
    if window < 2:
        axes.plot(epoch, values, **_line(colour, len(values)), label=label)
        return
    axes.plot(epoch, values, color=colour, linewidth=0.8, alpha=0.2)
    axes.plot(epoch, _running_mean(values, window), **_line(colour, len(values)), label=label)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Means over the last `window` values or as many as there are; NaN counts for nothing."""
    known = np.isfinite(values)
    sums, counts = (
        np.concatenate([np.zeros(window), np.cumsum(each)])
        for each in (np.where(known, values, 0.0), known)
    )
    counts = counts[window:] - counts[:-window]
    means = (sums[window:] - sums[:-window]) / np.maximum(counts, 1)
    return np.where(known, means, np.nan)


def _limits(training: Sequence[np.ndarray], validation: np.ndarray) -> tuple[float, float]:
    """A range of losses that no spike rules.

    It leaves out the highest 0.5 % of each training curve. Validation losses are shown up to
    twice that high, and at least half of them: after the first epochs, when the moving statistics
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


def _line(colour, count: int) -> dict[str, Any]:
    """How a curve of so many points looks; few points are marked."""
    return {"color": colour, "linewidth": 1.6, "marker": "o" if count <= 40 else None, "ms": 3}


def _legend(axes) -> None:
    """Beside the panel, where it hides no curve however many blocks there are."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        ncols=1 + len(axes.get_legend_handles_labels()[0]) // 19,
        frameon=False,
        fontsize=9,
    )
