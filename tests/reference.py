"""Inputs and weights of the numeric references: pure functions of a seed and a name."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["inputs", "names", "set_weights", "weight"]


def inputs(reference: dict) -> tuple:
    """Returns `(x_train, y_train, x_valid, y_valid)` of a reference, float64 and int64."""
    rng = np.random.Generator(np.random.PCG64(reference["seed"]))
    steps, batch, valid = (reference[key] for key in ("steps", "batch", "val_batch"))
    x_train = rng.standard_normal((steps, batch, 32, 32, 3))
    y_train = rng.integers(0, 10, (steps, batch))
    x_valid = rng.standard_normal((valid, 32, 32, 3))
    y_valid = rng.integers(0, 10, (valid,))
    return x_train, y_train, x_valid, y_valid


def weight(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of that name, for example `unit_1/conv_0/kernel`; float64."""
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    normal = rng.standard_normal(shape)
    layer, leaf = name.split("/")[-2:]
    if layer.startswith("conv"):
        return normal * np.sqrt(2 / np.prod(shape[:3]))
    if layer.startswith("dwconv"):
        return normal * np.sqrt(2 / np.prod(shape[:2]))
    if leaf == "kernel":
        return normal * np.sqrt(1 / shape[0])
    return 1 + 0.1 * normal if leaf == "gamma" else 0.1 * normal


def names(part) -> list[str]:
    """The reference's names of a part's trainable variables, in their order.

    The reference calls the last convolution and normalisation of a separable net, which we hold in
    one layer "features", by their numbers.
    """
    count = {
        kind: sum(layer.name.startswith(kind) for layer in part.layers) for kind in ("conv_", "bn_")
    }
    result = []
    for variable in part.trainable_variables:
        layer, leaf = variable.path.split("/")[-2:]
        if layer == "features":
            kind = "conv_" if leaf == "kernel" else "bn_"
            layer = f"{kind}{count[kind]}"
        result.append(f"{part.name}/{layer}/{leaf}")
    return result


def set_weights(part, seed: int) -> None:
    """Gives every trainable variable of a part its reference weight."""
    for name, variable in zip(names(part), part.trainable_variables, strict=True):
        variable.assign(weight(seed, name, tuple(variable.shape)))
