"""Versions of what a result was made with, for its file."""

from __future__ import annotations

import platform

import keras
import numpy as np
import tensorflow as tf

import sedona_tf

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Package to version; of Python, too."""
    packages = {"sedona_tf": sedona_tf, "keras": keras, "numpy": np, "tensorflow": tf}
    found = {name: package.__version__ for name, package in packages.items()}
    return found | {"python": platform.python_version()}
