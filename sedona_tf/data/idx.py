"""The IDX format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from pathlib import Path

import numpy as np

from sedona_tf.data.memory import LabelledImages
from sedona_tf.errors import UserError, first_line

__all__ = ["read_folder", "read_idx"]

_PREFIXES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08
_MOST_DIMENSIONS = 32  # of a NumPy array
_CHECKSUM_FILE = "SHA256SUMS"


def read_idx(path: str | Path, sha256: str | None = None) -> np.ndarray:
    """Reads one IDX file of unsigned bytes; a name ending in `.gz` is decompressed.

    Args:
        path: of the file: two zero bytes, the type code, the rank, a big-endian uint32 per
            dimension, then the values.
        sha256: of the file as it lies there, compressed or not, in hexadecimal; None: not checked.
            The format itself has no checksum, but gzip has.

    Returns:
        uint8 array of the shape that the header gives.

    Raises:
        UserError: the file cannot be read or decompressed, has another checksum, is not IDX of
            unsigned bytes, or is shorter or longer than its header says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{path} is damaged: its checksum is not that of {_CHECKSUM_FILE}.")
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}.") from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(f"{path} is not an IDX file: starts with {content[:4].hex() or 'nothing'}.")
    kind, rank = content[2], content[3]
    if kind != _UNSIGNED_BYTE:
        raise UserError(f"{path} holds IDX type 0x{kind:02x}. Allowed: 0x08 (unsigned bytes).")
    start = 4 + 4 * rank
    if not 0 < rank <= _MOST_DIMENSIONS or len(content) < start:
        raise UserError(f"{path} has a truncated header: {len(content)} bytes, rank {rank}.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, offset=4))
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path} holds {len(content) - start} values where its header {shape} asks for "
            f"{math.prod(shape)}."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_folder(
    data_dir: str | Path, split: str, first_label: int = 0, num_classes: int | None = None
) -> LabelledImages:
    """Reads one split of a folder with MNIST's file names, gzipped or not.

    Args:
        data_dir: folder with `train-images-idx3-ubyte[.gz]`, `train-labels-idx1-ubyte[.gz]` and
            the same two with `t10k`; the plain file wins where both are there. If it also has
            `SHA256SUMS`, as `sha256sum *-ubyte* > SHA256SUMS` writes it, every file that is read
            must be listed there and agree: a flipped bit in a plain file shows in no other way.
        split: `train` or `test`.
        first_label: what the files call the first class; EMNIST's letters are numbered from 1.
        num_classes: for the test split, where they are known; None counts those of the training
            file.

    Returns:
        Images uint8 `(N, H, W, 1)`, their labels, and how many classes the training file has,
        whatever the split.

    Raises:
        UserError: the folder or a file is missing, a file is damaged, not listed in `SHA256SUMS`
            or of the wrong rank, or the training file's labels don't follow each other from
            `first_label`.
    """
    folder = Path(data_dir)
    if not str(data_dir) or not folder.is_dir():
        raise UserError(f"data 'idx' needs data_dir, a folder. Received: '{data_dir}'.")
    checksums = _read_checksums(folder / _CHECKSUM_FILE)
    images = _read_part(folder, checksums, _PREFIXES[split], "images", 3)
    labels = _read_part(folder, checksums, _PREFIXES[split], "labels", 1)
    found = LabelledImages(
        images[..., np.newaxis], labels.astype(np.int32) - first_label, num_classes
    )
    if split == "test" and num_classes is not None:
        return found
    training = labels if split == "train" else _read_part(folder, checksums, "train", "labels", 1)
    classes = np.unique(training)
    wrong = np.flatnonzero(classes != first_label + np.arange(len(classes)))
    if wrong.size:
        label, wanted = int(classes[wrong[0]]), first_label + int(wrong[0])
        hint = f" Set data.first_label={label} if it is the first class." if not wrong[0] else ""
        raise UserError(
            f"the training labels in {folder} leave out {wanted}: the next one is {label}.{hint}"
        )
    return found._replace(num_classes=len(classes))


def _read_checksums(path: Path) -> dict[str, str] | None:
    """File names to SHA-256 as `sha256sum` lists them; None if there is no such list."""
    try:
        text = path.read_text("utf-8-sig", "replace") if path.exists() else None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    if text is None:
        return None
    lines = re.findall(r"^([0-9a-f]{64}) [ *](?:\./)?(.+)$", text, re.MULTILINE)
    return {name: digest for digest, name in lines}


def _read_part(
    folder: Path, checksums: dict[str, str] | None, prefix: str, part: str, rank: int
) -> np.ndarray:
    name = f"{prefix}-{part}-idx{rank}-ubyte"
    path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
    if checksums is not None and path.is_file() and path.name not in checksums:
        raise UserError(
            f"{path} is not listed in {folder / _CHECKSUM_FILE}, which is damaged or too old."
        )
    values = read_idx(path, (checksums or {}).get(path.name))
    if values.ndim != rank:
        raise UserError(f"{path} has rank {values.ndim}. Allowed: {rank}.")
    return values
