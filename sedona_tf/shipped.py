"""Recipes and plans that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from sedona_tf.errors import UserError, unknown_name

__all__ = ["plan_file", "plan_names", "recipe_file", "recipe_names", "split_variant"]

PACKAGE = Path(__file__).parent


def recipe_names() -> list[str]:
    """Names that `recipe_file` takes."""
    return sorted(_files("recipes", ".py"))


def plan_names() -> list[str]:
    """Names that `plan_file` takes; those of the paper's authors begin with `published/`."""
    return sorted(_files("saved_plans", ".json"))


def recipe_file(text: str) -> str:
    """The file of a recipe, with its variant.

    Args:
        text: name or path, with `:VARIANT` behind it if wanted. A path to a file wins over a
            name; what ends in `.py` is no name, even where no such file exists.

    Returns:
        The path, and the variant as it was.

    Raises:
        UserError: for an unknown name, with the nearest known one.

    Example:
        >>> recipe_file("digits:smoke").endswith("recipes/digits.py:smoke")
        True
    """
    name, variant = split_variant(os.path.expanduser(text))
    file = _find("recipe", name, _files("recipes", ".py"), ".py")
    return file if variant is None else f"{file}:{variant}"


def split_variant(text: str) -> tuple[str, str | None]:
    """Splits `PATH:VARIANT`; a path may hold colons itself.

    Args:
        text: the path is the longest part before a colon that is a file. If no part is a file, it
            is all up to the last `.py`, or else all up to the first colon.

    Returns:
        The path, and the variant; None without one.

    Example:
        >>> split_variant("digits:smoke"), split_variant("C:/none.py:smoke"), split_variant("a.py")
        (('digits', 'smoke'), ('C:/none.py', 'smoke'), ('a.py', None))
    """
    parts = text.split(":")
    paths = [":".join(parts[:count]) for count in range(len(parts), 0, -1)]
    files = [path for path in paths if os.path.isfile(path)]
    sources = [path for path in paths if path.endswith(".py")]
    path = [*files, *sources, parts[0]][0]
    return path, text[len(path) + 1 :] if len(path) < len(text) else None


def plan_file(path: str | os.PathLike[str]) -> str:
    """The file of a plan or a decoupling; as `recipe_file`, with `.json`.

    Example:
        >>> plan_file("published/resnet50_k4").endswith("saved_plans/published/resnet50_k4.json")
        True
    """
    return _find("plan", os.fspath(path), _files("saved_plans", ".json"), ".json")


def _files(folder: str, suffix: str) -> dict[str, Path]:
    """Name to path: inside the package once it is installed, beside it in a checkout."""
    inside = PACKAGE / folder
    root = inside if inside.is_dir() else PACKAGE.parent / folder
    paths = [path for path in root.rglob(f"*{suffix}") if path.stem.isidentifier()]
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}


def _find(kind: str, text: str, known: dict[str, Path], suffix: str) -> str:
    text = os.path.expanduser(text)  # a shell leaves it in --plan=~/plan.json
    if os.path.isfile(text):
        return text
    if text in known:
        return str(known[text])
    if text.endswith(suffix) or os.path.exists(text):
        return text  # whoever opens it says what is wrong with it
    raise UserError(unknown_name(kind, text, sorted(known)))
