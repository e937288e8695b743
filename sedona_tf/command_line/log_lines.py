"""What the library logs, as plain lines of a command's output."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from absl import logging as absl_logging

import sedona_tf

__all__ = ["show_log_lines"]

_PACKAGE_FOLDER = Path(sedona_tf.__file__).parent


def _is_ours(record: logging.LogRecord) -> bool:
    return Path(record.pathname).is_relative_to(_PACKAGE_FOLDER)


class _PlainLines(logging.Handler):
    """Prints information on standard output, warnings on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            print("warning:", message, file=sys.stderr, flush=True)
        else:
            print(message, flush=True)


def show_log_lines() -> None:
    """Prints what this package logs as plain lines, for the rest of the process.

    Of what other packages log, only warnings and errors are shown, in absl's form. To be called
    inside `app.run`, which sets up absl's handler.
    """
    lines = _PlainLines()
    lines.addFilter(_is_ours)
    logging.getLogger().addHandler(lines)
    absl_logging.get_absl_handler().addFilter(
        lambda record: record.levelno >= logging.WARNING and not _is_ours(record)
    )
