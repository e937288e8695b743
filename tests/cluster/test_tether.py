"""Connections that end with the process at the other end."""

from __future__ import annotations

import socket
import time

import pytest

from sedona_tf.cluster import tether
from sedona_tf.cluster.tether import Tether


def eventually_cut(one: Tether) -> bool:
    end = time.monotonic() + 5
    while not one.cut() and time.monotonic() < end:
        time.sleep(0.01)
    return one.cut()


@pytest.mark.parametrize("renew", [3600.0, 0.0], ids=["kept", "made anew each time"])
def test_cut_when_the_other_end_goes_although_another_listens_there(renew, monkeypatch):
    monkeypatch.setattr(tether, "_RENEW", renew)
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = Tether(f"127.0.0.1:{server.getsockname()[1]}", 2.0)
        connection, _ = server.accept()
        connection.sendall(bytes(20_000))
        for _ in range(3):
            assert not one.cut()
            if not renew:
                connection.close()
                connection, _ = server.accept()
        connection.close()
        assert eventually_cut(one)
        one.close()


def test_nobody_there_at_all():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        one = Tether(f"127.0.0.1:{closed.getsockname()[1]}", 2.0)
    assert one.cut()
    one.close()
