"""The training curves: what is drawn is what was recorded, for every size, and legibly."""

from __future__ import annotations

import os

import numpy as np
import pytest

from sedona_tf.report import curves
from sedona_tf.report.curves import training_curves


def history_of(num_blocks: int, steps: int = 12, validations: int = 3, rate: bool = True) -> dict:
    rng = np.random.default_rng(0)
    history = {
        "step": list(range(10, 10 * steps + 1, 10)),
        "epoch": [2 * (n + 1) / steps for n in range(steps)],
        "loss": rng.random(steps).tolist(),
        "accuracy": rng.random(steps).tolist(),
    }
    for block in range(1, num_blocks):
        history[f"block_{block}_loss"] = (1 + rng.random(steps)).tolist()
    if rate:
        history["learning_rate"] = np.linspace(0.1, 0, steps).tolist()
    for name in ("val_error", "val_loss"):
        history[name] = rng.random(validations).tolist()
    history["val_step"] = list(range(40, 40 * validations + 1, 40))
    history["val_epoch"] = [2 * (n + 1) / validations for n in range(validations)]
    return history


def test_content(tmp_path, figures):
    history = history_of(12)
    training_curves(tmp_path / "curves.png", history, "a title")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    loss, error, rate = figures[0].axes
    names = [f"block_{block}_loss" for block in range(1, 12)]  # 10 after 9, not after 1
    lines = dict(zip([*names, "loss", "val_loss"], loss.lines, strict=True))
    for name, line in lines.items():
        np.testing.assert_array_equal(line.get_ydata(), history[name])
        np.testing.assert_array_equal(
            line.get_xdata(), history["val_epoch" if name == "val_loss" else "epoch"]
        )
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels[9:] == ["block 10", "block 11", "block 12 (head)", "head, validation"]
    np.testing.assert_allclose(
        error.lines[0].get_ydata(), 100 - 100 * np.array(history["accuracy"]), rtol=1e-12
    )
    np.testing.assert_array_equal(error.lines[1].get_ydata(), 100 * np.array(history["val_error"]))
    assert f"{100 * history['val_error'][-1]:.2f} %" in error.get_title()
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), history["learning_rate"])
    assert all(axes.get_ylabel() for axes in figures[0].axes) and rate.get_xlabel() == "epoch"


def test_what_was_not_recorded_is_not_drawn(tmp_path, figures):
    history = history_of(1, rate=False)
    for name in ("accuracy", "val_loss", "val_error", "val_step", "val_epoch"):
        del history[name]
    training_curves(tmp_path / "curves.png", history, "title")
    loss, error = figures[0].axes
    assert [line.get_label() for line in loss.lines] == ["head"] and not error.lines
    empty = {name: [] for name in ("val_loss", "val_error", "val_step", "val_epoch")}
    training_curves(tmp_path / "curves.png", history | empty, "title")
    assert [len(axes.lines) for axes in figures[1].axes] == [1, 0]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 600, 30), (4, 12, 3), (16, 80, 8), (50, 12, 3)])
def test_nothing_overlaps(tmp_path, figures, sizes):
    training_curves(tmp_path / "curves.png", history_of(*sizes), "a title")
    figure = figures[0]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
            inside = [box for box in boxes if figure.bbox.overlaps(box)]
            for first, second in zip(inside, inside[1:], strict=False):
                assert not first.overlaps(second)
        assert axes.get_window_extent().width > 0.4 * figure.bbox.width
    legends = [axes.get_legend().get_window_extent() for axes in figure.axes[:2]]
    assert not legends[0].overlaps(legends[1])
    for legend in legends:
        assert legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
        assert not any(legend.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_noisy_curves_are_averaged_and_kept_pale(tmp_path, figures):
    history = history_of(2, steps=300)
    history["loss"][100] = 1e6
    training_curves(tmp_path / "curves.png", history, "title")
    loss = figures[0].axes[0]
    _, _, pale, mean, _ = loss.lines  # block 1's two, the head's, validation
    np.testing.assert_array_equal(pale.get_ydata(), history["loss"])
    assert pale.get_alpha() < 0.5
    expected = [np.mean(history["loss"][max(n - 4, 0) : n + 1]) for n in range(300)]
    # atol: the running sums hold the spike of 1e6
    np.testing.assert_allclose(mean.get_ydata(), expected, rtol=1e-9, atol=1e-8)


def test_running_mean_passes_over_gaps():
    mean = curves._running_mean(np.array([np.nan, 1.0, 3.0, np.nan, 5.0, 6.0]), 2)
    np.testing.assert_array_equal(mean, [np.nan, 1, 2, np.nan, 5, 5.5])


def test_a_spike_does_not_rule_the_range():
    none = np.zeros(0)
    training = [np.array([1.0] * 999 + [1e9]), np.array([2.0, np.nan])]
    low, high = curves._limits(training, none)
    assert 0.9 < low < 1 and 2 < high < 2.1
    assert curves._limits(training, np.array([40.0, 1.5, 0.5]))[1] < 5  # twice 2 and a margin
    assert 3.5 < curves._limits(training, np.array([2.0, 3.5, 0.5]))[1] < 4
    assert curves._limits(training, np.array([40.0, 30.0, 0.5]))[1] > 30  # at least half of them
    assert curves._limits([np.array([np.nan])], none) == (0, 1)
    low, high = curves._limits([np.array([np.nan])], np.array([3.0]))
    assert low < 3 < high


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", [1] * 12),
        ("step", []),
        ("epoch", [1.0] * 11),
        ("loss", [1.0] * 11),
        ("block_1_loss", [1.0]),
        ("learning_rate", []),
        ("val_step", [3, 2, 1]),
        ("val_error", [0.1] * 4),
        ("val_loss", None),
        ("loss", None),
    ],
)
def test_lists_that_do_not_fit(tmp_path, name, value):
    history = {**history_of(2), name: value}
    if value is None:
        del history[name]
    if name == "val_loss":  # the one that may be missing
        training_curves(tmp_path / "curves.png", history, "title")
        return
    with pytest.raises(ValueError, match=f"'{name}'"):
        training_curves(tmp_path / "curves.png", history, "title")
    assert not os.listdir(tmp_path)
