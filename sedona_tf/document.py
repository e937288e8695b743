"""The envelope of all JSON that is read back: format, version and checksum."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from sedona_tf.errors import UserError, first_line

__all__ = ["MAX_BYTES", "VERSION", "kind_of", "pack", "read_json", "unpack"]

VERSION = 1
MAX_BYTES = 16 * 2**20
"""A plan of 1,000 units is below one MiB; a longer file is something else."""


def pack(content: dict[str, Any], kind: str, indent: int | None = 1) -> bytes:
    """Wraps JSON-ready content.

    Args:
        content: what the file holds; all numbers finite.
        kind: of the file in words, such as `"plan"` or `"cost cache"`.
        indent: of the lines; None puts all on one.

    Returns:
        The bytes of the file. Floats are written so that they read back bit for bit.

    Raises:
        ValueError: if the content is not JSON-ready.
    """
    document = {"format": f"sedona_tf.{kind}", "version": VERSION, **content}
    document["checksum"] = _checksum(document)
    return (json.dumps(document, indent=indent, allow_nan=False) + "\n").encode()


def unpack(
    path: str | os.PathLike[str], fields: set[str], kind: str, most: int = MAX_BYTES
) -> dict[str, Any]:
    """Reads a file that `pack` made. Nothing in it is ever executed.

    Args:
        path: the file.
        fields: names of the content's fields, all of them needed.
        kind: what `pack` was told.
        most: bytes; a longer file is refused.

    Returns:
        The content, its checksum confirmed; the types of its fields are not checked here.

    Raises:
        UserError: naming the file, if it is missing, not JSON, damaged, of another format, of
            another version or of other fields.
    """
    document = read_json(path, kind, most)
    form = f"sedona_tf.{kind}"
    if not isinstance(document, dict) or document.get("format") != form:
        raise UserError(f"{kind} '{path}' is not a {kind} file: its format is not '{form}'.")
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        shown = version if type(version) is int and abs(version) < 10**6 else "something else"
        raise UserError(f"{kind} '{path}' has version {shown}; this program reads {VERSION}.")
    checksum = document.pop("checksum", None)
    if checksum != _checksum(document):
        raise UserError(f"{kind} '{path}' is damaged or was edited: its checksum does not match.")
    content = {name: document[name] for name in document if name not in ("format", "version")}
    for word, names in (
        ("lacks", fields - content.keys()),
        ("has the unknown", content.keys() - fields),
    ):
        if names:
            raise UserError(f"{kind} '{path}' {word} field {min(names)!a:.80}.")
    return content


def kind_of(path: str | os.PathLike[str]) -> str:
    """`"plan"` or `"decoupling"`, as the file says of itself; otherwise as for `unpack`."""
    document = read_json(path, "plan")
    if isinstance(document, dict) and document.get("format") == "sedona_tf.decoupling":
        return "decoupling"
    return "plan"


def read_json(path: str | os.PathLike[str], kind: str, most: int = MAX_BYTES) -> Any:
    """Reads JSON strictly: UTF-8, with or without a byte order mark, finite numbers only.

    Args:
        path: the file.
        kind: what it should be, for the words of errors.
        most: bytes; a longer file is refused.

    Raises:
        UserError: naming the file, if it is missing or not such JSON.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise UserError(f"{kind} '{path}' does not exist.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{kind} '{path}' cannot be read: {reason}.") from error
    if len(data) > most:
        raise UserError(f"{kind} '{path}' is not a {kind} file: it is over {most >> 20} MiB.")
    try:
        # Strict UTF-8: json.loads on bytes would guess at UTF-16 and let lone surrogates through.
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
        json.dumps(document, allow_nan=False)  # 1e999 reads as infinity
    except RecursionError as error:
        reason = "it is nested too deeply"
        raise UserError(f"{kind} '{path}' is not a {kind} file: {reason}.") from error
    except ValueError as error:
        reason = first_line(error)
        raise UserError(f"{kind} '{path}' is not readable JSON: {reason}.") from error
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds the non-finite number {name}")


def _checksum(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON: white space and the order of keys do not count."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
