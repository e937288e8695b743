"""SIGTERM, SIGHUP and Ctrl-C that wait until the work at hand can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

from sedona_tf.errors import Interrupted

__all__ = ["StopRequest"]

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
OUTPUTS = (1, 2)
"""File descriptors of standard output and error."""


class StopRequest:
    """Takes over SIGINT, SIGTERM and SIGHUP while it is entered, and gives them back afterwards.

    Signals that the caller ignores stay ignored: SIGINT for a script's background jobs, SIGHUP
    under `nohup`. SIGHUP comes when the terminal is closed. Output to that terminal is
    then thrown away.

    Outside `deferred` a signal raises `Interrupted` at once. Inside, the first one is only noted:
    whoever does the work asks `signal`, saves and calls `stop`. A second one does not wait.
    Python runs signal handlers on the main thread between two instructions, so a long call into
    TensorFlow ends first. On any other thread nothing is taken over.

    Attributes:
        signal: number of the signal that came, or None.
        waits: whether one is only noted; may be set inside `deferred`, where it starts true.

    Example:
        >>> import os, signal
        >>> with StopRequest() as request, request.deferred():
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     print("still here:", request.signal == signal.SIGTERM)
        still here: True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.waits = False
        self._previous: dict[int, object] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> StopRequest:
        on_main = threading.current_thread() is threading.main_thread()
        for number in SIGNALS if on_main else ():
            if signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        self._terminals = [number for number in OUTPUTS if os.isatty(number)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that C code has set, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals only set `signal` in here."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def stop(self, message: str) -> None:
        """Raises `Interrupted` with a message if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal, message)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.signal is not None
        self.signal = number
        for terminal in self._terminals:
            if not os.isatty(terminal):  # it is gone: writing to it is an error
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, terminal)
                os.close(nowhere)
        if again or not self.waits:
            self.stop(f"stopped by {signal.Signals(number).name}")
