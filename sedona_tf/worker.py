"""Lends this machine's devices to a decoupled training that runs elsewhere.

Examples:
  python -m sedona_tf.worker --port 2222                     announced as 127.0.0.1:2222
  python -m sedona_tf.worker --port 2222 --host 10.0.0.2     announced as 10.0.0.2:2222

Whoever reaches the port can run any code of TensorFlow here: there is no password and no
encryption. The port is open on all addresses of this machine, whatever --host says. Only a
firewall or a private network keeps others out: see docs/security.md. Ctrl-C ends it.
"""

from __future__ import annotations

import signal

from absl import flags

from sedona_tf import command_line
from sedona_tf.cluster.addresses import own_address
from sedona_tf.runs.signals import StopRequest

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    flags.DEFINE_integer(
        "port", None, "TCP port; 0 takes a free one.", lower_bound=0, upper_bound=65535
    )
    flags.mark_flag_as_required("port")
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "IPv4 address of this machine under which others reach it. It is printed and restricts "
        "nothing.",
    )


def main() -> None:
    """Runs the command."""
    with StopRequest():
        host = own_address(flags.FLAGS.host)
        with command_line.progress():
            command_line.start_tensorflow()
            from sedona_tf.cluster.server import serve

            server, port = serve(flags.FLAGS.port, host)
        print(f"worker ready on {host}:{port}", flush=True)
        print(
            f"warning: port {port} is open on all addresses of this machine, without a password; "
            "whoever reaches it can run code here. See docs/security.md.",
            flush=True,
        )
        while server:
            signal.pause()


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
