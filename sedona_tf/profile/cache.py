"""Measured costs on disk, by device and by what was measured, so that nothing is timed twice."""

from __future__ import annotations

import dataclasses
import os

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.profile.costs import PartCost

__all__ = ["CostCache"]

KIND = "cost cache"


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
        if path is None or not os.path.exists(path):
            return
        content = document.unpack(path, {"devices"}, KIND)
        try:
            for device, parts in content["devices"].items():
                found = {key: PartCost.from_dict(cost) for key, cost in parts.items()}
                self._parts[device] = found
        except (AttributeError, ValueError) as error:
            raise UserError(f"{KIND} '{path}': {error}") from error

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
        if self._path is None:
            return
        devices = {
            device: {key: dataclasses.asdict(cost) for key, cost in parts.items()}
            for device, parts in self._parts.items()
        }
        with atomic_write(self._path) as file:
            file.write(document.pack({"devices": devices}, KIND))
