"""Limits of Linux control groups, which containers and batch systems set, on this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["core_limit", "memory_limit"]

_NO_LIMIT = "max"
"""Version 2's word for no limit."""


def core_limit(root: Path = Path("/")) -> float:
    """Number of cores whose time the process may take; infinite without a limit.

    Args:
        root: of the file system.
    """
    limits = []
    for group in _groups("cpu", root):
        both = _words(group / "cpu.max")  # version 2
        if not both:
            both = [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
        if len(both) == 2 and both[0] != _NO_LIMIT and int(both[0]) > 0:
            limits.append(int(both[0]) / int(both[1]))
    return min(limits, default=math.inf)


def memory_limit(root: Path = Path("/")) -> float:
    """Bytes of memory that the process may take; infinite or larger than memory without a limit.

    Args:
        root: of the file system.
    """
    words = [
        word
        for group in _groups("memory", root)
        for name in ("memory.max", "memory.limit_in_bytes")
        for word in _words(group / name)
    ]
    return min((int(word) for word in words if word != _NO_LIMIT), default=math.inf)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the controller's groups with this process, from the innermost to the outermost."""
    paths: dict[str, PurePosixPath] = {}  # by controller, "" for version 2; proc(5), cgroups(7)
    for line in _lines(root / "proc/self/cgroup"):
        _, names, group = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), PurePosixPath(group))
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup" and controller in options.split(","):
            path = paths.get(controller)
        else:
            continue
        if path is None:
            continue
        top, point = mount.split()[3:5]
        # A container may see the whole path although only a part of it is mounted.
        inside = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
        folder = root / point.lstrip("/")
        for each in (inside, *inside.parents):
            yield folder / each


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
