"""The flag `--recipe`: a file, or the name of a recipe that comes with the package.

Recipes are programs, so anything can go wrong in one: `recipe_problem` says what, in one line.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import re
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from sedona_tf.errors import UserError, unknown_name
from sedona_tf.shipped import recipe_file, recipe_names, split_variant

__all__ = ["define_recipe", "is_recipe", "recipe_problem"]

flags.disclaim_key_flags()  # the flag is the command's, for --help


class _RecipeParser(flags.ArgumentParser):
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
    flags.FLAGS["recipe"].parser = _RecipeParser(argv)
    flags.mark_flag_as_required("recipe")


def is_recipe(flag: flags.Flag) -> bool:
    """Whether the flag is the one that `define_recipe` declares."""
    return isinstance(flag.parser, _RecipeParser)


def recipe_problem(arguments: list[str]) -> str | None:
    """Reads the recipe once more, to say better than absl's parser what is wrong with it.

    Args:
        arguments: of the process, as far as they are flags.

    Returns:
        One line; None if nothing is wrong with the recipe, or the command takes none.
    """
    if "recipe" not in flags.FLAGS or not is_recipe(flags.FLAGS["recipe"]):
        return None
    arguments = flags.FLAGS.read_flags_from_files(arguments, force_gnu=False)
    path = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=False):
        match = re.fullmatch(r"--?recipe(=.*)?", argument, re.DOTALL)
        if match:
            path = match[1][1:] if match[1] else following
    if path is None:
        return None
    try:
        path = recipe_file(path)
        config = flags.FLAGS["recipe"].parser.parse(path)
    except UserError as error:
        return str(error)
    except Exception as error:
        return _failure_inside(path, error)
    known = _fields(config)
    for argument in arguments:
        match = re.match(r"--?(?:no)?recipe\.([\w.]+)(?:=|$)", argument)
        if match and match[1] not in known:
            return unknown_name("recipe field", match[1], known)
    return None


def _fields(config: Any, prefix: str = "") -> list[str]:
    """The dotted paths of a recipe's fields, inner ones included."""
    if not hasattr(config, "items"):
        return []
    return [
        path
        for name, value in config.items()
        for path in (f"{prefix}{name}", *_fields(value, f"{prefix}{name}."))
    ]


def _failure_inside(path: str, error: BaseException) -> str:
    """Words what went wrong inside a recipe, with the line if there is one."""
    file, _ = split_variant(path)
    if not os.path.isfile(file):
        return f"recipe file '{file}' does not exist."
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        frames = traceback.extract_tb(link.__traceback__)
        lines = [f.lineno for f in frames if os.path.realpath(f.filename) == os.path.realpath(file)]
        if isinstance(link, SyntaxError) and link.filename:
            lines.append(link.lineno)
        if lines:
            reason = getattr(link, "msg", None) or link
            return f"recipe '{path}' failed at line {lines[-1]}: {type(link).__name__}: {reason}"
    return f"recipe '{path}' cannot be used: {chain[-1]}"
