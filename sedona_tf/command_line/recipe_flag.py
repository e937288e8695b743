"""The flag `--recipe`, which takes a file or the name of a recipe that comes with the package."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
import types
from collections.abc import Iterator

import ml_collections
from absl import flags
from ml_collections import config_flags

from sedona_tf.errors import UserError
from sedona_tf.shipped import recipe_file, recipe_names, split_variant

__all__ = ["define_recipe"]

flags.disclaim_key_flags()  # the flag is the command's, for --help


class _Parser(flags.ArgumentParser):
    """Reads recipe files, whose paths may hold colons, and looks names up first.

    Args:
        argv: gets the process' arguments when a recipe is read.
    """

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv

    def parse(self, argument: str) -> ml_collections.ConfigDict:
        self._argv[:] = sys.argv
        file, variant = split_variant(recipe_file(argument))
        module = types.ModuleType("recipe_config")
        module.__file__ = file
        with _imports_from(os.path.dirname(os.path.realpath(file))):
            importlib.machinery.SourceFileLoader(module.__name__, file).exec_module(module)
            config = module.get_config(*([] if variant is None else [variant]))
        if not isinstance(config, ml_collections.ConfigDict):
            found = "None" if config is None else type(config).__name__
            raise UserError(
                f"recipe '{argument}': get_config() must return a ConfigDict. Received: {found}"
            )
        return ml_collections.ConfigDict(config).lock()  # a FrozenConfigDict is thawed

    def flag_type(self) -> str:
        return "recipe"


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
    argv: list[str] = []  # read by the flag when it is parsed; a bad --flagfile is told then
    config_flags.DEFINE_config_file(
        "recipe",
        help_string=f"a recipe file, or one of {', '.join(recipe_names())}; NAME:smoke takes a few "
        "steps only. --recipe.FIELD=VALUE changes a field.",
        sys_argv=argv,
    )
    flags.FLAGS["recipe"].parser = _Parser(argv)
    flags.mark_flag_as_required("recipe")
