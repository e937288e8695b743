"""The picture is drawn for every size, without overlap, and written at once or not at all."""

from __future__ import annotations

import errno
import io
import os
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from sedona_tf.errors import UserError
from sedona_tf.profile.run import draw_fronts
from sedona_tf.report import charts, plots
from sedona_tf.report.curves import training_curves
from sedona_tf.report.plots import search_report


def history_of(num_units: int, num_steps: int = 5, num_candidates: int = 4) -> dict:
    rng = np.random.default_rng(0)
    cuts = num_units - 1
    return {
        "steps": np.arange(num_steps) * 10,
        "cut_probability": rng.random((num_steps, cuts)),
        "candidate_weights": rng.dirichlet(np.ones(num_candidates), (num_steps, cuts)),
        "outer_loss": rng.random(num_steps),
        "candidate_names": [f"separable(depth={i + 1})" for i in range(num_candidates)],
    }


@pytest.mark.parametrize("sizes", [(2, 1, 1), (8, 5, 4), (50, 40, 9)])
def test_content(tmp_path, figures, sizes):
    history = history_of(*sizes)
    search_report(tmp_path / "report.png", history, "a title")
    data = (tmp_path / "report.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 800 and height >= 800
    heat, bars, line, _ = figures[0].axes
    np.testing.assert_array_equal(
        np.asarray(heat.collections[0].get_array()).reshape(sizes[0] - 1, sizes[1]),
        np.transpose(history["cut_probability"]),
    )
    heights = [[patch.get_height() for patch in bar.patches] for bar in bars.containers]
    # matplotlib keeps the ends of a bar, so its height has the rounding of numbers near 1
    np.testing.assert_allclose(heights, np.transpose(history["candidate_weights"][-1]), atol=1e-15)
    np.testing.assert_array_equal(line.lines[0].get_ydata(), history["outer_loss"])
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in (heat, bars, line))


@pytest.mark.parametrize("sizes", [(2, 1, 1), (8, 5, 4), (20, 5, 4), (26, 5, 4), (50, 5, 4)])
def test_nothing_overlaps(tmp_path, figures, sizes):
    search_report(tmp_path / "report.png", history_of(*sizes), "a title")
    figure = figures[0]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
            inside = [box for box in boxes if figure.bbox.overlaps(box)]
            for first, second in zip(inside, inside[1:], strict=False):
                assert not first.overlaps(second)
    legend = figure.axes[1].get_legend().get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1
    assert not legend.overlaps(figure.axes[2].title.get_window_extent())
    assert not legend.overlaps(figure.axes[1].xaxis.label.get_window_extent())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", [0, 0, 1, 2, 3]),
        ("steps", []),
        ("cut_probability", np.zeros((5, 0))),
        ("cut_probability", np.zeros((4, 7))),
        ("candidate_weights", np.zeros((5, 7, 3))),
        ("outer_loss", np.zeros(4)),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, name, value):
    with pytest.raises(ValueError, match=name):
        search_report(tmp_path / "report.png", {**history_of(8), name: value}, "title")
    assert not os.listdir(tmp_path)


def test_edges_are_half_way():
    np.testing.assert_array_equal(plots._edges(np.array([0.0, 10.0, 30.0])), [-5, 5, 20, 40])


def test_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "report.png"
    path.write_bytes(b"old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        search_report(path, history_of(3), "title")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["report.png"]


def test_a_users_style_does_not_reach_the_pictures(tmp_path):
    """Set in a matplotlibrc, `text.usetex` ends in an error where there is no LaTeX."""
    curves = {"step": [1, 2], "epoch": [0.5, 1.0], "loss": [2.0, 1.0]}

    def drawn() -> list[bytes]:
        search_report(tmp_path / "report.png", history_of(3), "title")
        training_curves(tmp_path / "curves.png", curves, "title")
        draw_fronts(front := io.BytesIO(), [], "title")
        return [
            plots.heat_map([1, 2], [np.array([0.2, 0.6]), np.array([0.3, 0.5])]).tobytes(),
            charts.final_chart("final", [0.2, 0.6]).svg.encode(),
            *((tmp_path / name).read_bytes() for name in ("report.png", "curves.png")),
            front.getvalue(),
        ]

    expected = drawn()
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": True}):
        assert drawn() == expected


@pytest.mark.parametrize(
    ("values", "limits"),
    [([0.36, 0.56, 0.4], (0.36, 0.56)), ([0.0, 1.0], (0, 1)), ([0.5, 0.5], (0.49, 0.51))],
)
def test_the_colours_of_the_heat_map_span_what_it_shows(values, limits):
    axes = Figure().subplots()
    mesh = plots.draw_probability(axes, np.array([1.0]), np.array([values]))
    assert mesh.get_clim() == pytest.approx(limits)


def test_matplotlib_is_imported_late():
    script = "import sys, sedona_tf.report; print({'matplotlib', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
