"""Named arrays in one file, with a checksum over every bit of it."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sedona_tf.errors import UserError, first_line
from sedona_tf.files import atomic_write

__all__ = ["Arrays", "read_arrays", "write_arrays"]

Arrays = dict[str, np.ndarray]
DIGEST = 32
"""Bytes of a SHA-256."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays atomically, as an .npz file that ends in its own checksum.

    The checksum, SHA-256 of all before it, stands in the comment of the zip archive. The zip
    format's own do not cover names, sizes and shapes.
    """
    with atomic_write(path) as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = bytes(DIGEST)
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        file.seek(0)
        digest = hashlib.sha256()
        remaining = os.fstat(file.fileno()).st_size - DIGEST
        while remaining:
            piece = file.read(min(remaining, 2**20))
            digest.update(piece)
            remaining -= len(piece)
        file.seek(-DIGEST, os.SEEK_END)
        file.write(digest.digest())


def read_arrays(path: Path) -> Arrays:
    """Reads what `write_arrays` wrote; never runs code from the file.

    Raises:
        UserError: if the file is missing, truncated, differs in any bit from what was written, or
            holds something else under a right checksum, such as a pickle.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(memoryview(data)[:-DIGEST]).digest() != data[-DIGEST:]:
        raise UserError(f"{path} is damaged: its checksum does not match.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name.removesuffix(".npy"): _array(archive, name) for name in archive.namelist()}
    except Exception as error:  # those of zipfile and NumPy have many types
        raise UserError(f"{path} is not a file of arrays: {first_line(error)}.") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
