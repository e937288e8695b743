"""What is drawn is what was recorded, for every size and legibly; files are whole or not there."""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from sedona_tf.errors import UserError
from sedona_tf.report import figures
from sedona_tf.report.figures import search_report, svg_element, training_curves

PNG = b"\x89PNG\r\n\x1a\n"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>\"'&$\\frac"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, in order."""
    written, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        written.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return written


def search_history(num_units: int, num_steps: int = 5, num_candidates: int = 4) -> dict:
    rng = np.random.default_rng(0)
    cuts = num_units - 1
    return {
        "steps": np.arange(num_steps) * 10,
        "cut_probability": rng.random((num_steps, cuts)),
        "candidate_weights": rng.dirichlet(np.ones(num_candidates), (num_steps, cuts)),
        "outer_loss": rng.random(num_steps),
        "candidate_names": [f"separable(depth={i + 1})" for i in range(num_candidates)],
    }


def training_history(num_blocks: int, steps: int = 12, validations: int = 3) -> dict:
    rng = np.random.default_rng(0)
    history = {
        "step": list(range(10, 10 * steps + 1, 10)),
        "epoch": [2 * (n + 1) / steps for n in range(steps)],
        "loss": rng.random(steps).tolist(),
        "accuracy": rng.random(steps).tolist(),
        "learning_rate": np.linspace(0.1, 0, steps).tolist(),
        "val_step": list(range(40, 40 * validations + 1, 40)),
        "val_epoch": [2 * (n + 1) / validations for n in range(validations)],
        "val_error": rng.random(validations).tolist(),
        "val_loss": rng.random(validations).tolist(),
    }
    for block in range(1, num_blocks):
        history[f"block_{block}_loss"] = (1 + rng.random(steps)).tolist()
    return history


def require_legible(figure: Figure) -> None:
    """No tick labels overlap, no text is cut off, and no legend hides a panel or its labels."""
    figure.draw_without_rendering()  # lays it out for its own resolution, not the file's
    panels = figure.axes
    for axes in panels:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
            inside = [box for box in boxes if axes.get_tightbbox().overlaps(box)]
            for first, second in zip(inside, inside[1:], strict=False):
                assert not first.overlaps(second)
        box = axes.get_tightbbox()
        assert box.x0 >= -1 and box.y0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert axes.get_window_extent().width > 0.4 * figure.bbox.width
        assert axes.get_window_extent().height > 40
        if legend := axes.get_legend():
            area = legend.get_window_extent()
            assert not area.overlaps(axes.xaxis.label.get_window_extent())
            assert not any(area.overlaps(each.get_window_extent()) for each in panels)
            assert not any(area.overlaps(each.title.get_window_extent()) for each in panels)


@pytest.mark.parametrize("sizes", [(2, 1, 1), (8, 5, 4), (50, 40, 9)])
def test_a_search_as_recorded(tmp_path, drawn, sizes):
    history = search_history(*sizes)
    search_report(tmp_path / "report.png", history, "a title")
    data = (tmp_path / "report.png").read_bytes()
    assert data[:8] == PNG
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 800 and height >= 800
    heat, bars, line = drawn[0].axes
    np.testing.assert_array_equal(
        np.asarray(heat.collections[0].get_array()).reshape(sizes[0] - 1, sizes[1]),
        np.transpose(history["cut_probability"]),
    )
    heights = [[patch.get_height() for patch in bar.patches] for bar in bars.containers]
    # matplotlib keeps the ends of a bar, so its height has the rounding of numbers near 1
    np.testing.assert_allclose(heights, np.transpose(history["candidate_weights"][-1]), atol=1e-15)
    tops = [bar.patches[0].get_y() + bar.patches[0].get_height() for bar in bars.containers]
    np.testing.assert_allclose(tops, np.cumsum(history["candidate_weights"][-1, 0]), atol=1e-15)
    np.testing.assert_array_equal(line.lines[0].get_ydata(), history["outer_loss"])
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in (heat, bars, line))
    assert heat.get_window_extent().x1 == pytest.approx(line.get_window_extent().x1)  # line up


@pytest.mark.parametrize("sizes", [(2, 1, 1), (8, 5, 4), (20, 5, 4), (26, 5, 4), (50, 5, 16)])
def test_a_search_is_legible(tmp_path, drawn, sizes):
    search_report(tmp_path / "report.png", search_history(*sizes), "a title")
    require_legible(drawn[0])


def test_a_training_as_recorded(tmp_path, drawn):
    history = training_history(12)
    training_curves(tmp_path / "curves.png", history, "a title")
    assert (tmp_path / "curves.png").read_bytes()[:8] == PNG
    loss, error, rate = drawn[0].axes
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
    assert all(axes.get_ylabel() for axes in drawn[0].axes) and rate.get_xlabel() == "epoch"


def test_what_was_not_recorded_is_not_drawn(tmp_path, drawn):
    history = training_history(1)
    for name in ("accuracy", "learning_rate", "val_loss", "val_error", "val_step", "val_epoch"):
        del history[name]
    training_curves(tmp_path / "curves.png", history, "title")
    loss, error = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["head"] and not error.lines
    empty = {name: [] for name in ("val_loss", "val_error", "val_step", "val_epoch")}
    training_curves(tmp_path / "curves.png", history | empty, "title")
    assert [len(axes.lines) for axes in drawn[1].axes] == [1, 0]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 600, 30), (4, 12, 3), (16, 80, 8), (50, 12, 3)])
def test_a_training_is_legible(tmp_path, drawn, sizes):
    training_curves(tmp_path / "curves.png", training_history(*sizes), "a title")
    require_legible(drawn[0])


def test_noisy_curves_are_averaged_and_kept_pale(tmp_path, drawn):
    history = training_history(2, steps=300)
    history["loss"][100] = 1e6
    training_curves(tmp_path / "curves.png", history, "title")
    _, _, pale, mean, _ = drawn[0].axes[0].lines  # block 1's two, the head's, validation
    np.testing.assert_array_equal(pale.get_ydata(), history["loss"])
    assert pale.get_alpha() < 0.5
    expected = [np.mean(history["loss"][max(n - 4, 0) : n + 1]) for n in range(300)]
    np.testing.assert_allclose(mean.get_ydata(), expected, rtol=1e-9)


def test_running_mean_passes_over_gaps():
    mean = figures._running_mean(np.array([np.nan, 1.0, 3.0, np.nan, 5.0, 6.0]), 2)
    np.testing.assert_array_equal(mean, [np.nan, 1, 2, np.nan, 5, 5.5])


def test_a_spike_does_not_rule_the_range():
    none = np.zeros(0)
    training = [np.array([1.0] * 999 + [1e9]), np.array([2.0, np.nan])]
    limits = figures._loss_limits
    low, high = limits(training, none)
    assert 0.9 < low < 1 and 2 < high < 2.1
    assert limits(training, np.array([40.0, 1.5, 0.5]))[1] < 5  # twice 2 and a margin
    assert 3.5 < limits(training, np.array([2.0, 3.5, 0.5]))[1] < 4
    assert limits(training, np.array([40.0, 30.0, 0.5]))[1] > 30  # at least half of them
    assert limits([np.array([np.nan])], none) == (0, 1)
    low, high = limits([np.array([np.nan])], np.array([3.0]))
    assert low < 3 < high


def test_edges_are_half_way():
    np.testing.assert_array_equal(figures._step_edges(np.array([0.0, 10.0, 30.0])), [-5, 5, 20, 40])
    np.testing.assert_array_equal(figures._step_edges(np.array([3.0])), [2.5, 3.5])


@pytest.mark.parametrize(
    ("values", "limits"),
    [([0.36, 0.56, 0.4], (0.36, 0.56)), ([0.0, 1.0], (0, 1)), ([0.5, 0.5], (0.49, 0.51))],
)
def test_the_colours_of_the_heat_map_span_what_it_shows(values, limits):
    axes = Figure().subplots()
    figures.draw_cut_probability(axes, np.array([1.0]), np.array([values]))
    assert axes.collections[0].get_clim() == pytest.approx(limits)


def test_an_svg_element_shows_the_values_and_nothing_unescaped():
    weights = np.array([[0.25, 0.75], [0.5, 0.5]])
    names = ["plain", HOSTILE]

    def element(name: str) -> str:
        return svg_element(
            lambda axes: figures.draw_candidate_weights(axes, weights, names), name, HOSTILE
        )

    first, second = element("first"), element("second")
    assert first == element("first")
    root = ElementTree.fromstring(first)
    assert root.get("role") == "img" and root.get("aria-label") == HOSTILE
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"plain", HOSTILE, "unit", "1", "2"} <= set(texts)
    ids = [set(re.findall(r'\bid="([^"]+)"', each)) for each in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', first)) <= ids[0]


@pytest.mark.parametrize("num_blocks", [1, 4, 50])
def test_a_page_picture_is_legible(drawn, num_blocks):
    columns = figures.training_columns(training_history(num_blocks))
    svg_element(lambda axes: figures.draw_losses(axes, columns), "loss", "label")
    require_legible(drawn[0])


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.png"
    path.write_bytes(b"old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        search_report(path, search_history(3), "title")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["report.png"]


def test_a_users_style_does_not_reach_the_pictures(tmp_path):
    """Set in a matplotlibrc, `text.usetex` ends in an error where there is no LaTeX."""

    def draw() -> list[bytes]:
        search_report(tmp_path / "report.png", search_history(3), "title")
        training_curves(tmp_path / "curves.png", training_history(2), "title")
        bars = svg_element(lambda axes: figures.draw_final_probability(axes, [0.2, 0.6]), "a", "b")
        return [
            figures.heat_map([1, 2], [np.array([0.2, 0.6]), np.array([0.3, 0.5])]).tobytes(),
            bars.encode(),
            *((tmp_path / name).read_bytes() for name in ("report.png", "curves.png")),
        ]

    expected = draw()
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": True}):
        assert draw() == expected


def test_matplotlib_is_imported_late():
    script = (
        "import sys, sedona_tf.report.figures; print({'matplotlib', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
