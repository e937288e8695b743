"""Signals that wait for the work at hand, within this process."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sedona_tf.errors import Interrupted
from sedona_tf.interruption import StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
