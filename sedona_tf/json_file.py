"""JSON files that hold one typed value: each field is checked when it is read, and when it is made.

A type's tag is the format that its files state: `tag_field="format", tag="sedona_tf.plan"`.
"""

from __future__ import annotations

import codecs
import functools
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

import msgspec
from msgspec import Meta

from sedona_tf.errors import UserError, first_line
from sedona_tf.files import atomic_write

__all__ = [
    "Amount",
    "Checked",
    "Fraction",
    "Json",
    "Name",
    "PositiveInt",
    "Typed",
    "WholeNumber",
    "load",
    "save",
]

VERSION = 1
MAX_BYTES = 16 * 2**20
"""A plan of 1,000 units is below one MiB; a longer file is something else."""

if TYPE_CHECKING:
    Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
else:
    Json = Any  # msgspec takes no recursive alias, and what was read as JSON holds nothing else

_ONE_LINE = r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z"
"""No control characters, no line ends, and none that turn the direction of writing."""
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_ONE_LINE)]
"""Text that can be shown on one line."""
PositiveInt = Annotated[int, Meta(ge=1, lt=2**31)]
WholeNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[float, Meta(ge=0, le=1e300)]
"""Of seconds, bytes and the like; sums of them stay finite."""
Fraction = Annotated[float, Meta(ge=0, le=1)]


class Typed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file holds: its fields are checked when it is read."""


class Checked(Typed, frozen=True):
    """What a file holds and Python makes: its fields are checked when it is made, too.

    Fields may be given as JSON has them: lists, arrays or tuples, and an object for a `Checked`.

    Raises:
        ValueError: naming the field that is wrong.
    """

    def __post_init__(self) -> None:
        names = self.__struct_fields__
        content = {name: msgspec.Raw(_encoded(getattr(self, name), name)) for name in names}
        checked = msgspec.json.decode(msgspec.json.encode(content), type=_unchecked(type(self)))
        for name in names:
            msgspec.structs.force_setattr(self, name, getattr(checked, name))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them, a copy."""
        content = json.loads(_encoded(self, "it"))
        content.pop("format", None)
        return content


AnyTyped = TypeVar("AnyTyped", bound=Typed)


def save(path: str | os.PathLike[str], value: Typed, indent: int | None = 1) -> None:
    """Writes a value as JSON, all or nothing; its floats read back bit for bit.

    Args:
        path: the file.
        value: of a type with a tag.
        indent: of the lines; None puts all on one.

    Raises:
        UserError: if it cannot be written; a file that was there is then untouched.
        ValueError: for numbers that are not finite.
    """
    content = msgspec.to_builtins(value, enc_hook=_builtin)
    content = {"format": content.pop("format"), "version": VERSION, **content}
    data = json.dumps(content, indent=indent, allow_nan=False).encode()
    with atomic_write(path) as file:
        file.write(data + b"\n")


def load(
    path: str | os.PathLike[str],
    *types: type[AnyTyped],
    max_bytes: int = MAX_BYTES,
    ignored: Collection[str] = (),
) -> AnyTyped:
    """Reads what `save` wrote, and refuses what is not exactly that. Executes nothing.

    Args:
        path: the file.
        types: what it may hold; the first one gives its name to errors.
        max_bytes: a longer file is refused.
        ignored: fields that earlier versions wrote.

    Returns:
        The value, of the type that the file states.

    Raises:
        UserError: one line naming the file, and the field that is wrong.
    """
    kind = str(types[0].__struct_config__.tag).partition(".")[2]
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise UserError(f"{kind} '{path}' does not exist.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{kind} '{path}' cannot be read: {reason}.") from error
    if len(data) > max_bytes:
        raise UserError(f"{kind} '{path}' is not a {kind} file: it is over {max_bytes >> 20} MiB.")
    try:
        content = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=dict[str, Any])
        envelope = msgspec.convert(content, _Envelope)
        if envelope.version != VERSION:
            raise ValueError(f"it has version {envelope.version}; this program reads {VERSION}")
        for name in ("version", "checksum", *ignored):  # earlier versions wrote a checksum
            content.pop(name, None)
        return msgspec.convert(content, Union[types])  # noqa: UP007
    except RecursionError as error:
        raise UserError(f"{kind} '{path}' is nested too deeply.") from error
    except ValueError as error:
        reason = "".join(filter(str.isprintable, first_line(error)))
        raise UserError(f"{kind} '{path}' is damaged or no {kind}: {reason:.300}") from error


class _Envelope(msgspec.Struct):
    """What every file states."""

    format: str
    version: Annotated[int, Meta(gt=-(10**6), lt=10**6)]


@functools.cache
def _unchecked(checked: type[Checked]) -> type[msgspec.Struct]:
    """A type of the same fields that calls no `__post_init__`."""
    fields = [(field.name, field.type) for field in msgspec.structs.fields(checked)]
    return msgspec.defstruct(checked.__name__, fields)


def _builtin(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else msgspec.to_builtins(value)


_ENCODER = json.JSONEncoder(allow_nan=False, default=_builtin)
"""Not msgspec's, which writes null for numbers that are not finite."""


def _encoded(value: Any, name: str) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON-ready: {first_line(error)}") from error
