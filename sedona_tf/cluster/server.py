"""A worker: TensorFlow's server, which lends this machine's devices to a training elsewhere."""

from __future__ import annotations

import os
import socket

import tensorflow as tf

from sedona_tf.cluster.connection import bypass_proxy
from sedona_tf.errors import UserError

__all__ = ["serve"]


def serve(port: int, address: str) -> tuple[tf.distribute.Server, int]:
    """Starts TensorFlow's server on all interfaces of this machine, without a password.

    TensorFlow can neither listen on one interface only nor ask for a password; see
    docs/security.md.

    Args:
        port: TCP port, or 0 for a free one.
        address: IPv4 address under which others reach this worker, see `own_address`.

    Returns:
        The server, which stops when it is garbage, and its port.

    Raises:
        UserError: if the port cannot be opened.
    """
    bypass_proxy()
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # others may share the GPU
    try:
        with socket.socket() as trial:  # its error says more than TensorFlow's
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("", port))
        server = tf.distribute.Server({"worker": [f"{address}:{port}"]})
    except OSError as error:
        raise UserError(f"port {port} cannot be opened: {error.strerror}.") from error
    except tf.errors.OpError as error:
        raise UserError(f"port {port} cannot be opened: {error.message}") from error
    return server, int(server.target.rpartition(":")[2])
