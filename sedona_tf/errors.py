"""Errors that a person sees: one line, what was wrong, what is allowed."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence

from absl import logging

__all__ = [
    "Interrupted",
    "UserError",
    "dispensable",
    "first_line",
    "operation_failure",
    "unknown_name",
]


class UserError(ValueError):
    """Something the user gave is wrong; commands print its one line and exit with code 2."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work in an orderly way; commands print the line and exit with `code`.

    Args:
        signal: number of the signal.
        message: what was saved and how to go on.

    Attributes:
        code: 128 + the number, as shells count: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.code = 128 + signal


@contextlib.contextmanager
def dispensable(what: str) -> Iterator[None]:
    """Logs a failure of the `with` block as a warning, for pictures of numbers that are kept.

    Args:
        what: name of the product of the block.

    Example: the reason is logged.
        >>> with dispensable("the picture"):
        ...     raise RuntimeError("no fonts")
    """
    try:
        yield
    except Exception as error:
        logging.warning(f"{what} could not be made: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that follow; its type if it says nothing.

    Example:
        >>> first_line(ValueError("too long\\nby far")), first_line(KeyError())
        ('too long', 'KeyError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def operation_failure(message: str) -> str:
    """What went wrong in one of TensorFlow's operations, without its names and the lines after.

    Args:
        message: of a `tf.errors.OpError`.

    Example:
        >>> operation_failure("{{function_node f}} {{node a}} no room [Op:A]\\nHint: less")
        'no room'
    """
    return message.splitlines()[0].rpartition("}} ")[2].partition(" [Op:")[0]


def unknown_name(kind: str, name: str, allowed: Sequence[str]) -> str:
    """Words the error for an unknown name, with the nearest allowed one.

    Example:
        >>> unknown_name("backbone", "resnet5O", ["resnet50", "vgg19"])
        "unknown backbone 'resnet5O'. Did you mean 'resnet50'? Allowed: resnet50, vgg19."
    """
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Allowed: {', '.join(allowed)}."
