"""Standard output and error to which a command can always write."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator

__all__ = ["drop_native_log_lines", "make_writable"]

_NATIVE_LOG_LINE = re.compile(rb"[IWE]\d{4} |WARNING: All log messages before absl::InitializeLog")


def make_writable() -> None:
    """Opens closed streams, and lets no stream fail at a character.

    A service, cron or `>&-` may start a process without a standard output or error. Python has no
    stream then, and the next file to be opened gets the stream's number. Messages of libraries
    would go into that file. A character that a stream's encoding lacks appears as `\\xe9`.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number, which is this one; child processes are to have it too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error(_escape.__name__, _escape)
        sys.stdout.reconfigure(errors=_escape.__name__)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Writes the bytes of file names as they are, other characters as `\\xe9`."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


@contextlib.contextmanager
def drop_native_log_lines() -> Iterator[None]:
    """Drops the log lines of native libraries from standard error; everything else appears after.

    TensorFlow logs some lines while it is imported, before its log has a level. On Linux only.
    """
    if not hasattr(os, "memfd_create"):
        yield
        return
    sys.stderr.flush()
    stream = os.dup(2)
    with open(os.memfd_create("stderr"), "w+b") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stream, 2)
            os.close(stream)
            held.seek(0)
            for line in held:
                if not _NATIVE_LOG_LINE.match(line):
                    os.write(2, line)
