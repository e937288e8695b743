"""Addresses of workers, and whether a worker answers there.

A TCP connection proves little. The kernel accepts it on behalf of a process that is stopped, and a
tunnel on behalf of one that is gone. TensorFlow's runtime speaks gRPC, which is HTTP/2. An HTTP/2
server must begin with a SETTINGS frame, which only a running process sends.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import ipaddress
import socket
import time
from collections.abc import Iterator, Sequence

from sedona_tf.errors import UserError

__all__ = [
    "NoAnswer",
    "own_address",
    "parse_addresses",
    "probe",
    "require_distinct",
    "unresponsive",
]

# RFC 9113: the client's preface and an empty SETTINGS frame (length 0, type 4, stream 0).
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2_FRAME_HEADER_BYTES = 9
_HTTP2_SETTINGS_TYPE = 4


class NoAnswer(Exception):
    """Nobody answers as a worker would; the message says in a few words what happened instead."""


def parse_addresses(cluster: str) -> list[str]:
    """Splits `host1:port,host2:port`.

    Args:
        cluster: addresses of the workers, task 0 first.

    Returns:
        One `host:port` a worker.

    Raises:
        UserError: if an address is not `host:port` with a port from 1 to 65535, or comes twice.

    Example:
        >>> parse_addresses("10.0.0.1:2222, 10.0.0.2:2222")
        ['10.0.0.1:2222', '10.0.0.2:2222']
    """
    addresses = [address.strip() for address in cluster.split(",")]
    for index, address in enumerate(addresses):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(f"cluster must be host:port,host:port,... Received: '{cluster}'")
        if address in addresses[:index]:
            raise UserError(f"cluster names {address} twice. Received: '{cluster}'")
    return addresses


def own_address(host: str) -> str:
    """The IPv4 address of a name or address of this host.

    Args:
        host: name or IPv4 address.

    Raises:
        UserError: if it is another host's, or `0.0.0.0`, which names no host.

    Example:
        >>> own_address("127.0.0.1")
        '127.0.0.1'
    """
    try:
        with _host_names():
            address = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        if ipaddress.ip_address(address).is_unspecified:
            raise OSError(errno.EINVAL, "it names no host")
        with socket.socket() as trial:
            trial.bind((address, 0))
    except OSError as error:
        raise UserError(
            "host must be an IPv4 address of this machine under which others reach it. "
            f"Received: '{host}' ({error.strerror})"
        ) from error
    return str(address)


def require_distinct(addresses: Sequence[str]) -> None:
    """Refuses two addresses of the same worker, as far as their names tell.

    TensorFlow crashes if one worker is two tasks.

    Args:
        addresses: `host:port` each. An unknown name is left to `probe`.

    Raises:
        UserError: if two have the same port and an IP address in common.

    Example:
        >>> require_distinct(["127.0.0.1:2222", "127.0.0.1:2223"])
    """
    resolved: dict[str, set[tuple[str, int]]] = {}
    for address in addresses:
        here = _resolve(address)
        for other, there in resolved.items():
            if here & there:
                raise UserError(f"cluster names one worker twice: {other} and {address}.")
        resolved[address] = here


def _resolve(address: str) -> set[tuple[str, int]]:
    """The IP addresses of a `host:port`, each with the port; none if the name is unknown."""
    host, _, port = address.rpartition(":")
    try:
        with _host_names():
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {(str(each[4][0]).removeprefix("::ffff:"), int(port)) for each in found}


@contextlib.contextmanager
def _host_names() -> Iterator[None]:
    """Makes Python's error about a name with an empty or too long label the `OSError` it is."""
    try:
        yield
    except UnicodeError as error:
        raise OSError(errno.EINVAL, "no host can have this name") from error


def probe(address: str, timeout: float) -> str:
    """Waits until whoever listens at an address greets as a gRPC server.

    Args:
        address: `host:port`.
        timeout: seconds.

    Returns:
        The address of this host, without port, from which it was reached.

    Raises:
        NoAnswer: if no greeting came in time.
    """
    deadline = time.monotonic() + timeout
    host, _, port = address.rpartition(":")
    try:
        with (
            _host_names(),
            socket.create_connection((host.strip("[]"), int(port)), timeout) as connection,
        ):
            connection.sendall(_HTTP2_PREFACE)
            greeting = b""
            while len(greeting) < _HTTP2_FRAME_HEADER_BYTES:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                received = connection.recv(_HTTP2_FRAME_HEADER_BYTES - len(greeting))
                if not received:
                    raise NoAnswer("it closes the connection")
                greeting += received
            if greeting[3] != _HTTP2_SETTINGS_TYPE:
                raise NoAnswer("what listens there is not a worker")
            return connection.getsockname()[0]
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {timeout:g} s") from error
    except OSError as error:
        raise NoAnswer((error.strerror or str(error)).lower()) from error


def unresponsive(addresses: Sequence[str], timeout: float) -> dict[str, str]:
    """Probes all addresses at once.

    Args:
        addresses: `host:port` each.
        timeout: seconds.

    Returns:
        Address to what happened, for each that does not answer.
    """
    if not addresses:
        return {}
    with concurrent.futures.ThreadPoolExecutor(len(addresses)) as pool:
        asked = {address: pool.submit(probe, address, timeout) for address in addresses}
    found = {address: answer.exception() for address, answer in asked.items()}
    return {address: str(error) for address, error in found.items() if error is not None}
