"""Progress bars: the time left, work that was done before, silence on request."""

from __future__ import annotations

import fcntl
import itertools
import pty
import re
import struct
import sys
import termios

import pytest
from run_stubs import stub_run

from sedona_tf.runs.callbacks import Progress
from sedona_tf.runs.progress import progress_bar


def test_counts_from_what_was_done_and_tells_the_time_left(capsys):
    bar = progress_bar("searching", 10, "step", done=4)
    bar.update()
    bar.refresh()
    bar.close()
    printed = capsys.readouterr().out
    assert "\r" not in printed and "\n\n" not in printed
    lines = printed.splitlines()
    assert lines[0].startswith("searching:  40% 4/10 [")
    assert any(re.search(r" 5/10 \[\d\d:\d\d<\d\d:\d\d,", line) for line in lines[1:])


def test_a_terminal_of_80_columns_shows_the_loss_of_the_head(monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with open(theirs, "w") as terminal, open(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stdout", terminal)
        progress = Progress(stub_run("training", 11_000, 112_800))
        progress.on_train_begin()
        progress.bar.mininterval = 0.0
        progress.bar.start_t -= 2
        blocks = {f"block_{index}_loss": 1.5 for index in (1, 2, 3)}
        progress.on_train_batch_end(0, {"accuracy": 0.25, **blocks, "loss": 2.125})
        progress.close()
        terminal.flush()
        shown = b""
        while not shown.endswith(b"\n"):  # which ends the bar; one chunk may not be all
            shown += screen.read(4096)
    states = [state.strip() for state in shown.decode().split("\r")]
    last = [state for state in states if " 11001/112800 [" in state]
    assert last and all(len(state) <= 80 and ", loss=2.125" in state for state in last)


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
