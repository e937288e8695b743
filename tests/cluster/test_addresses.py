"""Addresses, and telling a living gRPC server from whatever else accepts a connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from sedona_tf.cluster.addresses import (
    NoAnswer,
    own_address,
    parse_addresses,
    probe,
    require_distinct,
    unresponsive,
)
from sedona_tf.errors import UserError


@contextlib.contextmanager
def listener(answer: bytes | None):
    """The address of a server that answers each connection with some bytes; None: accepts none."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while answer is not None:
                    connection, _ = server.accept()
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def test_an_http2_greeting_is_an_answer():
    with listener(SETTINGS) as address:
        assert probe(address, 2.0) == "127.0.0.1"


@pytest.mark.parametrize(
    "answer, words",
    [
        (None, "no answer within 0.5 s"),  # as a stopped process: its kernel accepts
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is not a worker"),
        (b"", "closes the connection|connection reset"),
    ],
)
def test_other_listeners_are_no_workers(answer, words):
    began = time.monotonic()
    with listener(answer) as address, pytest.raises(NoAnswer, match=words):
        probe(address, 0.5)
    assert time.monotonic() - began < 2.0


def test_unresponsive_names_those_that_do_not_answer():
    with listener(SETTINGS) as good, listener(None) as stopped, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        refused = f"127.0.0.1:{closed.getsockname()[1]}"
        lost = unresponsive([good, stopped, refused], 0.5)
    assert lost == {stopped: "no answer within 0.5 s", refused: "connection refused"}
    assert unresponsive([], 0.5) == {}


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_names_that_no_host_can_have(host):
    assert unresponsive([f"{host}:1"], 0.5) == {f"{host}:1": "no host can have this name"}
    with pytest.raises(UserError, match="name"):
        own_address(host)


@pytest.mark.parametrize("cluster", ["", "host", "host:", ":1", "host:0", "host:65536", "a:1,,b:2"])
def test_malformed_addresses(cluster):
    with pytest.raises(UserError, match="host:port"):
        parse_addresses(cluster)


def test_own_address():
    assert own_address("localhost") == "127.0.0.1"
    for host in ("192.0.2.1", "0.0.0.0"):  # set aside for documentation; names no host
        with pytest.raises(UserError, match="address of this machine"):
            own_address(host)


def test_an_address_comes_once():
    with pytest.raises(UserError, match="a:1 twice"):
        parse_addresses("a:1,b:1,a:1")


def test_a_worker_comes_once_whatever_it_is_called():
    require_distinct(["localhost:1", "127.0.0.1:2", "127.0.0.2:1", "a..b:1", "a..b:2"])
    for twice in (
        ["localhost:1", "127.0.0.1:1"],
        ["127.0.0.2:1", "a..b:1", "[::ffff:127.0.0.2]:1"],
    ):
        with pytest.raises(UserError, match=f"twice: {twice[0]} and"):
            require_distinct(twice)
