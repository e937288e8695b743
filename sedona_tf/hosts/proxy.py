"""Keeps TensorFlow's traffic between hosts off the proxies that the environment names."""

from __future__ import annotations

import os

__all__ = ["bypass_proxy"]


def bypass_proxy() -> None:
    """Sets an empty `grpc_proxy` for this process; to be called before TensorFlow first connects.

    The runtime speaks gRPC, which sends everything through `grpc_proxy`, `https_proxy` or
    `http_proxy`, even to this host. A proxy for the web does not pass it on, and TensorFlow waits
    for ever, in code during which no thread of Python runs. `probe` asks for a direct connection
    anyway. Downloads go on through the other two.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112, gRPC reads it so
