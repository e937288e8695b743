"""A connection that shows that a worker has ended, also when another one took its port at once.

TensorFlow's errors do not tell which of several workers was started again: they may name the one
that noticed. The kernel closes the connections of a process that ends, and of no other.
"""

from __future__ import annotations

import socket
import time

from sedona_tf.cluster.addresses import PREFACE, open_connection

__all__ = ["Tether"]

_RENEW = 3600.0
"""Seconds; a gRPC server drops a client that leaves its ping after two hours unanswered."""
_ACCEPTED = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])  # RFC 9113: the server's SETTINGS are


class Tether:
    """An idle connection to a worker.

    Args:
        address: `host:port`.
        timeout: seconds to connect in.

    Example:
        >>> with socket.create_server(("127.0.0.1", 0)) as server:
        ...     tether = Tether(f"127.0.0.1:{server.getsockname()[1]}", timeout=5.0)
        >>> time.sleep(0.1)
        >>> tether.cut()
        True
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._cut = False
        self._connection = socket.socket()
        self._open()

    def _open(self) -> None:
        self._made = time.monotonic()
        self._connection.close()
        try:
            self._connection = open_connection(self._address, self._timeout)
            self._connection.sendall(PREFACE + _ACCEPTED)
            self._connection.setblocking(False)
        except OSError:
            self._cut = True  # there is no such worker, or no longer

    def cut(self) -> bool:
        """Whether the worker that was there at first has ended; to be asked now and then."""
        while not self._cut:
            try:
                self._cut = not self._connection.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                self._cut = True
        if not self._cut and time.monotonic() - self._made > _RENEW:
            self._open()
        return self._cut

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()
