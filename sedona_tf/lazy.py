"""Public names of packages that are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import lazy_loader

__all__ = ["attach"]


def attach(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The names that a package's `__init__.pyi` lists, without importing where they come from.

    A command's package must answer `--help` before TensorFlow is imported. The first use of a name
    imports Keras on TensorFlow, then the name's module.

    Args:
        package: its `__name__`.
        file: its `__file__`.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def getattr_of_package(name: str) -> Any:
        if name in public:
            importlib.import_module("sedona_tf.environment.keras_backend")
        return load(name)

    return getattr_of_package, names, public
