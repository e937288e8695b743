"""Keeps TensorFlow's traffic between hosts off the proxies that the environment names."""

from __future__ import annotations

import os

__all__ = ["bypass_proxy"]


def bypass_proxy() -> None:
    """Sets an empty `grpc_proxy` for this process; to be called before TensorFlow first connects.

    The runtime uses gRPC, which sends everything through `grpc_proxy`, `https_proxy` or
    `http_proxy`, even to this host. A web proxy does not pass this traffic on. TensorFlow then
    waits for ever, in code during which no Python thread runs. `probe` asks for a direct connection
    anyway. Downloads still use `https_proxy` and `http_proxy`.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112, gRPC reads it so
