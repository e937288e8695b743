"""Recipes and plans that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from sedona_tf.errors import UserError, unknown_name

__all__ = ["plan_file", "plan_names", "recipe_file", "recipe_names"]

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
    name, colon, variant = text.partition(":")
    return _find("recipe", name, _files("recipes", ".py"), ".py") + colon + variant


def plan_file(text: str) -> str:
    """The file of a plan or a decoupling; as `recipe_file`, with `.json`.

    Example:
        >>> plan_file("published/resnet50_k4").endswith("saved_plans/published/resnet50_k4.json")
        True
    """
    return _find("plan", text, _files("saved_plans", ".json"), ".json")


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
