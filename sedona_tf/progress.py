"""A progress bar with the time left, for all that takes more than a few seconds."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

__all__ = ["progress_bar"]


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
    bar = tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=unit,
        file=sys.stdout,
        mininterval=0.2 if terminal else 10.0,
        dynamic_ncols=terminal,
        disable=not shown,
    )
    # The wall clock may jump: back by a day, and nothing would appear for a day.
    bar._time = time.monotonic
    bar.start_t = bar.last_print_t = time.monotonic()
    return bar
