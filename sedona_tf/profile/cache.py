"""Measured costs on disk, by device and by what was measured, so that nothing is timed twice."""

from __future__ import annotations

import os

from sedona_tf import json_file
from sedona_tf.profile.costs import PartCost

__all__ = ["CostCache"]


class _File(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.cost cache"):
    """Device to a part's key to its cost."""

    devices: dict[str, dict[str, PartCost]]


class CostCache:
    """A file of parts' costs.

    Args:
        path: the file; made when something is put in. None: nothing is kept.

    Raises:
        UserError: naming the file, if there is one that is not a sound cache.

    Example:
        >>> cache = CostCache(None)
        >>> cache.put("CPU, batch 8", "dense 4 to 2", PartCost(forward_s=0.1))
        >>> cache.get("CPU, batch 8", "dense 4 to 2").forward_s
        0.1
        >>> cache.get("GPU, batch 8", "dense 4 to 2") is None
        True
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = path
        self._parts: dict[str, dict[str, PartCost]] = {}
        if path is not None and os.path.exists(path):
            self._parts = json_file.load(path, _File).devices

    def get(self, device: str, part: str) -> PartCost | None:
        """The cost of a part on a device, if it was measured."""
        return self._parts.get(device, {}).get(part)

    def put(self, device: str, part: str, cost: PartCost) -> None:
        """Keeps a cost; `save` writes it."""
        self._parts.setdefault(device, {})[part] = cost

    def save(self) -> None:
        """Writes the file, all or nothing.

        Raises:
            UserError: if it cannot be written; a file that was there is then untouched.
        """
        if self._path is not None:
            json_file.save(self._path, _File(self._parts))
