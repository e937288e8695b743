"""The IDX format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from sedona_tf.errors import UserError

__all__ = ["read_folder", "read_idx"]

_PREFIXES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08


def read_idx(path: str | Path) -> np.ndarray:
    """Reads one IDX file of unsigned bytes; a name ending in `.gz` is decompressed.

    Args:
        path: of the file: two zero bytes, the type code, the rank, a big-endian uint32 per
            dimension, then the values.

    Returns:
        uint8 array of the shape that the header gives.

    Raises:
        UserError: the file cannot be read or decompressed, is not IDX of unsigned bytes, or is
            shorter or longer than its header says.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except FileNotFoundError as error:
        raise UserError(f"no file {path}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}.") from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(f"{path} is not an IDX file: starts with {content[:4].hex() or 'nothing'}.")
    kind, rank = content[2], content[3]
    if kind != _UNSIGNED_BYTE:
        raise UserError(f"{path} holds IDX type 0x{kind:02x}. Allowed: 0x08 (unsigned bytes).")
    start = 4 + 4 * rank
    if rank == 0 or len(content) < start:
        raise UserError(f"{path} has a truncated header: {len(content)} bytes, rank {rank}.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, offset=4))
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} holds {len(content) - start} values where its header {shape} asks for "
            f"{math.prod(shape)}."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_folder(data_dir: str | Path, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Reads one split of a folder with MNIST's file names, gzipped or not.

    Args:
        data_dir: folder with `train-images-idx3-ubyte[.gz]`, `train-labels-idx1-ubyte[.gz]` and
            the same two with `t10k`; the plain file wins where both are there.
        split: `train` or `test`.

    Returns:
        `(images, labels, num_classes)`: uint8 `(N, H, W, 1)`, int32 `(N,)`, and one more than the
        largest label of the training file, whatever the split.

    Raises:
        UserError: the folder or a file is missing, or a file is damaged or of the wrong rank.
    """
    folder = Path(data_dir)
    if not str(data_dir) or not folder.is_dir():
        raise UserError(f"data 'idx' needs data_dir, a folder. Received: '{data_dir}'.")
    images = _read_part(folder, _PREFIXES[split], "images", 3)
    labels = _read_part(folder, _PREFIXES[split], "labels", 1)
    training = labels if split == "train" else _read_part(folder, "train", "labels", 1)
    num_classes = int(training.max()) + 1 if training.size else 0
    return images[..., np.newaxis], labels.astype(np.int32), num_classes


def _read_part(folder: Path, prefix: str, part: str, rank: int) -> np.ndarray:
    name = f"{prefix}-{part}-idx{rank}-ubyte"
    plain = folder / name
    values = read_idx(plain if plain.is_file() else folder / f"{name}.gz")
    if values.ndim != rank:
        raise UserError(f"{folder / name} has rank {values.ndim}. Allowed: {rank}.")
    return values
