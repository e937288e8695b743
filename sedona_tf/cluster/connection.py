"""Connecting to workers, whose devices then are names like any other."""

from __future__ import annotations

import ipaddress
import os
import socket
import time

import tensorflow as tf

from sedona_tf.cluster.addresses import (
    NoAnswer,
    own_address,
    parse_addresses,
    probe,
    require_distinct,
)
from sedona_tf.errors import UserError, first_line

__all__ = ["bypass_proxy", "connect"]


def bypass_proxy() -> None:
    """Keeps traffic between hosts off proxies; to be called before TensorFlow first connects.

    TensorFlow uses gRPC, which sends everything through `grpc_proxy`, `https_proxy` or
    `http_proxy`, even to this host. A web proxy does not pass this traffic on. TensorFlow then
    waits for ever, in code during which no Python thread runs. So `grpc_proxy` is set to nothing,
    for the rest of the process. Downloads still use `https_proxy` and `http_proxy`.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112, gRPC reads it so


def connect(cluster: str, timeout: float = 10.0, address: str | None = None) -> list[str]:
    """Connects this process to workers, `python -m sedona_tf.worker`; once in its life.

    TensorFlow on the workers fetches batches and weights from this process, so it opens a port here
    too: on all interfaces, without a password. Whoever reaches it can run code here; a firewall
    must keep others out, see docs/security.md.

    Args:
        cluster: `host1:port,host2:port`, task 0 first.
        timeout: seconds for the workers to come up, all together.
        address: `host:port` under which the workers reach this process; by default a free port of
            the address from which this host reaches the workers, the first beyond loopback.

    Returns:
        Devices, to be given to `decouple`: each worker's GPUs, or its CPU if it has none, as
        `/job:worker/task:1/device:CPU:0`.

    Raises:
        UserError: if an address is malformed, two name the same worker, a worker does not
            answer, this process is connected already, its port cannot be opened, or `address` is
            another host's.
    """
    if any(_task(device.name) is not None for device in tf.config.list_logical_devices()):
        raise UserError("this process is connected to workers already; start a new one.")
    workers = parse_addresses(cluster)
    require_distinct(workers)
    if address is not None:
        (address,) = parse_addresses(address)
        own_address(address.rpartition(":")[0])
    bypass_proxy()
    own_hosts = _reach(workers, timeout)
    chief = address or _chief_address(own_hosts)
    spec = tf.train.ClusterSpec({"localhost": [chief], "worker": workers})
    try:
        tf.config.experimental_connect_to_cluster(spec, job_name="localhost")
        names = [device.name for device in tf.config.list_logical_devices()]
    except tf.errors.OpError as error:
        reason = first_line(error)
        raise UserError(f"cannot connect {chief} to the workers {cluster}: {reason}") from error
    devices = []
    for task in range(len(workers)):
        specs = [tf.DeviceSpec.from_string(name) for name in names if _task(name) == task]
        gpus = [each for each in specs if each.device_type == "GPU"]
        chosen = gpus or [each for each in specs if each.device_type == "CPU"][:1]
        devices += [
            f"/job:worker/task:{task}/device:{each.device_type}:{each.device_index}"
            for each in chosen
        ]
    return devices


def _task(device: str) -> int | None:
    """The number of the worker whose device it is; None if it is this process's."""
    spec = tf.DeviceSpec.from_string(device)
    return spec.task if spec.job == "worker" else None


def _reach(workers: list[str], timeout: float) -> list[str]:
    """Waits for all workers; returns this host's address towards each."""
    deadline = time.monotonic() + timeout
    own = []
    for task, worker in enumerate(workers):
        while True:
            left = deadline - time.monotonic()
            try:
                own.append(probe(worker, max(left, 1.0)))
                break
            except NoAnswer as reason:  # it may be starting still
                if left <= 0.2:
                    raise UserError(
                        f"worker {worker} (task {task}) cannot be reached: {reason}. Start it "
                        "with python -m sedona_tf.worker."
                    ) from reason
            time.sleep(0.2)
    return own


def _chief_address(own: list[str]) -> str:
    """A free port of this host's address that the workers can reach."""
    hosts = [host for host in own if not ipaddress.ip_address(host).is_loopback] or own
    host = hosts[0].removeprefix("::ffff:")
    if ":" in host:
        if not ipaddress.ip_address(host).is_loopback:
            raise UserError(f"workers are reached by IPv4 only. Received: one beyond {host}")
        host = "127.0.0.1"
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{host}:{free.getsockname()[1]}"
