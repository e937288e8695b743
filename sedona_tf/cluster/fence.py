"""Restricts a port that TensorFlow opened to one address of this host.

TensorFlow's gRPC server asks nobody for a password and always listens on all interfaces: its host
name is not used to bind. What can be done from the same process, without rights, is to give the
listening socket a packet filter (Linux, `socket(7)`, SO_ATTACH_FILTER) that drops whatever is not
addressed to one address, connection attempts included. Connections inherit it. To the outside this
is what binding to the address would be, with a timeout in place of a refusal.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from sedona_tf.cluster.addresses import host_names
from sedona_tf.errors import UserError

__all__ = ["ANY", "fence", "own_address"]

ANY = "0.0.0.0"
_SO_ATTACH_FILTER = 26  # linux/socket.h; to read it back, the same number
_CONNECTED = {"01", "03", "08"}  # net/tcp_states.h: established, being made, half closed
# linux/filter.h: codes of the classic packet filter, and where the IP header starts
_BYTE, _WORD, _AND, _EQUAL, _RETURN = 0x30, 0x20, 0x54, 0x15, 0x06
_IP = 0xFFF00000


def own_address(host: str, port: int = 0) -> str:
    """The IPv4 address of a name or address of this host.

    Args:
        host: name, IPv4 address, or `0.0.0.0`.
        port: a TCP port that must be free there, or 0.

    Raises:
        UserError: if the host is not this one, or the port is taken.

    Example:
        >>> own_address("127.0.0.1")
        '127.0.0.1'
    """
    try:
        with host_names():
            address = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise UserError(f"port {port} cannot be opened: {error.strerror}.") from error
        raise UserError(
            f"host must be an IPv4 address of this machine, or {ANY} for all of them. "
            f"Received: '{host}' ({error.strerror})"
        ) from error
    return str(address)


def fence(port: int, address: str) -> None:
    """Drops what reaches a port of this process under any other address than one.

    Args:
        port: a TCP port on which this process listens.
        address: IPv4 address, see `own_address`; with a loopback address `::1` stays reachable
            too; with `0.0.0.0` nothing is done.

    Raises:
        UserError: if this system cannot do it, or somebody has connected under another address
            before it was done.
    """
    if address == ANY:
        return
    listeners = list(_listeners(port))
    try:
        if not sys.platform.startswith("linux") or not listeners:
            raise OSError(0, "packet filters on sockets need Linux")
        for listener in listeners:
            _attach(listener, _filter(address))
    except OSError as error:
        raise UserError(
            f"port {port} cannot be restricted to {address} ({error.strerror}): TensorFlow opens "
            f"it on all interfaces, for anybody. Where a firewall guards it, do without: "
            f"--host {ANY} for a worker, connect(cluster, restrict=False) for the training."
        ) from error
    finally:
        for listener in listeners:
            listener.close()
    strangers = _connected(port, address)
    if strangers:
        raise UserError(f"somebody connected to {strangers[0]}:{port} before it was restricted.")


def _listeners(port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's sockets that listen on a port."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
            if (
                found.family in (socket.AF_INET, socket.AF_INET6)
                and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and found.getsockname()[1] == port
            ):
                yield found
            else:
                found.close()


def _filter(address: str) -> list[tuple[int, int, int, int]]:
    """Instructions (code, jump if true, jump if false, operand) that pass one destination."""
    ip = ipaddress.IPv4Address(address)
    v6 = [0, 0, 0, 1] if ip.is_loopback else []  # ::1
    passed, dropped = [(_RETURN, 0, 0, 0xFFFFFFFF)], [(_RETURN, 0, 0, 0)]
    v4_check = [(_WORD, 0, 0, _IP + 16), (_EQUAL, 0, 1, int(ip)), *passed, *dropped]
    v6_check = []
    for index, word in enumerate(v6):
        to_drop = 2 * (len(v6) - index) - 1
        v6_check += [(_WORD, 0, 0, _IP + 24 + 4 * index), (_EQUAL, 0, to_drop, word)]
    v6_check += [*passed, *dropped] if v6 else dropped
    version = [(_BYTE, 0, 0, _IP), (_AND, 0, 0, 0xF0), (_EQUAL, 0, len(v4_check), 0x40)]
    return [*version, *v4_check, *v6_check]


def _attach(listener: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Gives a socket a filter, and reads its length back to be sure."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    packed = struct.pack("@HP", len(program), ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, packed)
    # What comes back is cut to as many bytes as there are instructions.
    kept = listener.getsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, 8 * len(program))
    if len(kept) != len(program):
        raise OSError(0, "the packet filter did not stay")


def _connected(port: int, address: str) -> list[str]:
    """Addresses other than one under which somebody is connected to a port of this host."""
    found = []
    for table in ("tcp", "tcp6"):
        path = Path("/proc/self/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            local, state = line.split()[1], line.split()[3]
            digits, _, hexadecimal = local.partition(":")
            if int(hexadecimal, 16) == port and state in _CONNECTED:
                words = struct.unpack(f">{len(digits) // 8}I", bytes.fromhex(digits))
                raw = struct.pack(f"={len(words)}I", *words)  # each word is in the host's order
                ip = ipaddress.ip_address(raw)
                mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
                found.append(str(mapped or ip))
    allowed = {address, "::1"} if ipaddress.ip_address(address).is_loopback else {address}
    return [each for each in found if each not in allowed]
