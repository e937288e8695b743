"""A progress bar with the time left, for all that takes more than a few seconds."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

__all__ = ["progress_bar"]

LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
OPEN_LINE = "{desc}: {n_fmt}{unit} [{elapsed}, {rate_fmt}{postfix}]"


class _Lines:
    """A file for bars that have no terminal: each state is a line, not written over the last."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()


def progress_bar(
    what: str, total: int | None, unit: str, done: int = 0, shown: bool = True
) -> tqdm:
    """A bar on standard output; a line every ten seconds where there is no terminal.

    Args:
        what: is done, for example `"evaluating"`.
        total: how many units there are; None if nobody knows, which leaves the time left open.
        unit: of the work, for example `"step"`.
        done: units that were done before.
        shown: whether anything appears at all.

    Returns:
        The bar: `update` counts a unit, `close` ends the line.
    """
    terminal = sys.stdout.isatty()
    line = LINE if total is not None else OPEN_LINE
    bar = tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=unit,
        file=sys.stdout if terminal else _Lines(sys.stdout),
        bar_format=None if terminal else line,
        mininterval=0.2 if terminal else 10.0,
        dynamic_ncols=terminal,
        disable=not shown,
    )
    # The wall clock may jump: back by a day, and nothing would appear for a day.
    bar._time = time.monotonic
    bar.start_t = bar.last_print_t = time.monotonic()
    return bar
