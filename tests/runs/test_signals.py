"""Signals that wait for the work at hand, within this process."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading

import pytest

from sedona_tf.errors import Interrupted
from sedona_tf.runs.signals import StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHILD = """
from sedona_tf.runs.signals import StopRequest
with StopRequest() as request, request.deferred():
    print("ready", flush=True)
    while request.signal is None:
        time.sleep(0.05)
    print("to whom?", flush=True)
    open(sys.argv[1], "w").write(str(request.signal))
"""


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), zip(SIGNALS, (130, 143, 129), strict=True))
def test_waits_only_where_asked(number, code):
    with StopRequest() as request, request.deferred():
        send(number)
        assert request.signal == number
        with pytest.raises(Interrupted, match="saved") as stop:
            request.stop("saved")
        assert stop.value.code == code
    with StopRequest() as request:
        request.stop("nothing came")
        with pytest.raises(Interrupted) as stop:
            send(number)
        assert stop.value.code == code and str(stop.value) == f"stopped by {number.name}"


def test_second_signal_does_not_wait():
    with StopRequest() as request, request.deferred():
        send(signal.SIGTERM)
        with pytest.raises(Interrupted) as stop:
            send(signal.SIGINT)
        assert stop.value.code == 130


def test_gives_the_handlers_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), StopRequest():
        assert all(signal.getsignal(n) not in before for n in SIGNALS)
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_the_caller_ignores_stays_ignored(number):
    """As a script sets SIGINT for what it runs in the background, and nohup SIGHUP."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as request, request.deferred():
            send(number)
            assert request.signal is None and signal.getsignal(number) == signal.SIG_IGN
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_closed_terminal_lets_the_work_be_saved(tmp_path):
    """Its process gets SIGHUP, and each write to the terminal would be an error from then on."""
    child, terminal = pty.fork()
    if child == 0:
        program = f"import sys, time; {CHILD}"
        os.execv(sys.executable, [sys.executable, "-c", program, str(tmp_path / "saved")])
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 100)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "saved").read_text() == str(int(signal.SIGHUP))


def test_leaves_signals_alone_on_another_thread():
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def work():
        with StopRequest():
            seen.append([signal.getsignal(number) for number in SIGNALS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
