"""Flags that take files and folders, in whose paths `~` is the home folder.

Shells leave the `~` of `--workdir=~/runs` as it is. It would otherwise name a folder `~`.
"""

from __future__ import annotations

import os
from typing import Any

from absl import flags

__all__ = ["define_path", "define_paths"]

flags.disclaim_key_flags()  # the flags are the command's, for --help


class _Path(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return "path"


class _Paths(flags.ListParser):
    def parse(self, argument: Any) -> list[str]:
        return [os.path.expanduser(path) for path in super().parse(argument)]


def define_path(name: str, default: str | None, help_text: str, *, required: bool = False) -> None:
    """Declares a flag that takes a path.

    Args:
        name: of the flag.
        default: its value if it is not given.
        help_text: for `--help`.
        required: whether it must be given.
    """
    flags.DEFINE(_Path(), name, default, help_text, required=required)


def define_paths(name: str, help_text: str) -> None:
    """Declares a flag that takes paths, separated by commas; none if it is not given."""
    flags.DEFINE(_Paths(), name, [], help_text, serializer=flags.CsvListSerializer(","))
