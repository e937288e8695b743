"""Lends this machine's devices to a decoupled training that runs elsewhere.

Examples:
  python -m sedona_tf.worker --port 2222                     for this machine only, or an SSH tunnel
  python -m sedona_tf.worker --port 2222 --host 10.0.0.2     reachable under this one address
  python -m sedona_tf.worker --port 2222 --host 0.0.0.0      reachable under all of them

Whoever reaches the port can run any code of TensorFlow here: there is no password and no
encryption. See docs/security.md before you use an address that others reach. Ctrl-C ends it.
"""

from __future__ import annotations

import os
import signal

from absl import flags

from sedona_tf import command_line
from sedona_tf.cluster.fence import ANY, fence, own_address
from sedona_tf.cluster.proxy import bypass_proxy
from sedona_tf.errors import UserError
from sedona_tf.runs.signals import StopRequest

__all__ = ["define_flags", "main", "serve"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    flags.DEFINE_integer(
        "port", None, "TCP port; 0 takes a free one.", lower_bound=0, upper_bound=65535
    )
    flags.mark_flag_as_required("port")
    flags.DEFINE_string(
        "host", "127.0.0.1", f"IPv4 address of this machine to be reached under, or {ANY} for all."
    )


def serve(port: int, host: str) -> tuple[object, str]:
    """Starts TensorFlow's server.

    Args:
        port: TCP port, or 0 for a free one.
        host: name or address, see `own_address`.

    Returns:
        The server, which stops when it is garbage, and its `host:port`.

    Raises:
        UserError: if the port is taken, or cannot be restricted to the host.
    """
    address = own_address(host, port)
    bypass_proxy()
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # others may share the GPU
    command_line.start_tensorflow()
    import tensorflow as tf

    try:
        server = tf.distribute.Server({"worker": [f"{address}:{port}"]}, start=False)
    except tf.errors.OpError as error:
        raise UserError(f"port {port} cannot be opened: {error.message}") from error
    port = int(server.target.rpartition(":")[2])
    fence(port, address)
    server.start()
    return server, f"{address}:{port}"


def main() -> None:
    """Runs the command."""
    with StopRequest():
        with command_line.progress():
            server, address = serve(flags.FLAGS.port, flags.FLAGS.host)
        print(f"worker ready on {address}", flush=True)
        if address.startswith(ANY):
            print("warning: anybody who reaches this port can run code here", flush=True)
        while server:
            signal.pause()


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
