"""The flag `--recipe`, which takes a file or the name of a recipe that comes with the package."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from absl import flags
from ml_collections import config_flags

from sedona_tf.shipped import recipe_file, recipe_names

__all__ = ["define_recipe"]

flags.disclaim_key_flags()  # the flag is the command's, for --help


class _ByName(flags.ArgumentParser):
    """A parser of recipe files that looks names up first."""

    def __init__(self, parser: flags.ArgumentParser) -> None:
        self._parser = parser

    def parse(self, argument: str) -> Any:
        path = recipe_file(argument)
        with _imports_from(os.path.dirname(os.path.realpath(path.partition(":")[0]))):
            return self._parser.parse(path)

    def flag_type(self) -> str:
        return self._parser.flag_type()


@contextlib.contextmanager
def _imports_from(folder: str) -> Iterator[None]:
    """Looks for imports in a folder first, as Python does for a script."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def define_recipe() -> None:
    """Declares the flag, required; `--recipe.FIELD=VALUE` changes a field."""
    config_flags.DEFINE_config_file(
        "recipe",
        help_string=f"a recipe file, or one of {', '.join(recipe_names())}; NAME:smoke takes a few "
        "steps only. --recipe.FIELD=VALUE changes a field.",
    )
    flag = flags.FLAGS["recipe"]
    flag.parser = _ByName(flag.parser)
    flags.mark_flag_as_required("recipe")
