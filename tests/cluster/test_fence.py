"""A fenced port is reached under one address only; loopback has many."""

from __future__ import annotations

import socket
import sys

import pytest

from sedona_tf.cluster.fence import ANY, fence, own_address
from sedona_tf.errors import UserError

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="filters are Linux's")


@pytest.fixture(params=["IPv4", "IPv6 and IPv4"])  # the second is how gRPC listens
def port(request):
    if request.param == "IPv4":
        server = socket.create_server(("", 0))
    elif socket.has_dualstack_ipv6():
        server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        pytest.skip("there is no IPv6")
    with server:
        yield server.getsockname()[1]


def reached(port: int, *addresses: str) -> list[bool]:
    """Whether a connection can be made under each address."""
    result = []
    for address in addresses:
        try:
            socket.create_connection((address, port), 0.5).close()
            result.append(True)
        except OSError:
            result.append(False)
    return result


@linux
def test_one_address_is_let_in(port):
    fence(port, "127.0.0.2")
    assert reached(port, "127.0.0.1", "127.0.0.2", "127.0.0.3") == [False, True, False]


@linux
def test_nothing_is_restricted_under_any(port):
    fence(port, ANY)
    assert reached(port, "127.0.0.1", "127.0.0.2") == [True, True]


@linux
def test_ipv6_loopback_goes_with_ipv4_loopback():
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6")
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        fence(port, "127.0.0.1")
        assert reached(port, "127.0.0.1", "::1", "127.0.0.2") == [True, True, False]


@linux
def test_who_came_before_is_found(port):
    with socket.create_connection(("127.0.0.1", port), 1):
        fence(port, "127.0.0.1")  # who came under the right address may stay
        with pytest.raises(UserError, match=f"somebody connected to 127.0.0.1:{port} before"):
            fence(port, "127.0.0.3")


def test_a_port_that_is_not_ours_cannot_be_fenced():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="cannot be restricted to 127.0.0.1"):
            fence(closed.getsockname()[1], "127.0.0.1")


def test_own_address():
    assert own_address("localhost") == "127.0.0.1"
    with pytest.raises(UserError, match="address of this machine"):
        own_address("192.0.2.1")  # set aside for documentation
    server = socket.create_server(("127.0.0.1", 0))
    with server, pytest.raises(UserError, match="cannot be opened"):
        own_address("127.0.0.1", server.getsockname()[1])
