"""Progress bars: the time left, work that was done before, silence on request."""

from __future__ import annotations

import itertools
import re

import pytest

from sedona_tf.progress import progress_bar


def test_counts_from_what_was_done_and_tells_the_time_left(capsys):
    bar = progress_bar("searching", 10, "step", done=4)
    bar.update()
    bar.refresh()
    bar.close()
    lines = capsys.readouterr().out.split("\r")
    assert "40%" in lines[1] and " 4/10 [" in lines[1]
    assert any(re.search(r" 5/10 \[\d\d:\d\d<\d\d:\d\d,", line) for line in lines)


@pytest.mark.parametrize(("total", "shown"), [(None, True), (3, False)])
def test_unknown_totals_and_silence(total, shown, capsys):
    bar = progress_bar("evaluating", total, "batch", shown=shown)
    bar.update()
    bar.close()
    assert ("1batch" in capsys.readouterr().out) == shown


def test_goes_on_when_the_clock_is_set_back(monkeypatch, capsys):
    clock = itertools.count(1e9, -86_400)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    bar = progress_bar("training", 3, "step")
    bar.mininterval = 0.0
    bar.update()
    assert re.search(r" 1/3 \[00:00<00:0\d,", capsys.readouterr().out)
    bar.close()
