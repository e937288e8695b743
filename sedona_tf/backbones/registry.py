"""Backbones by name."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.backbones import resnet, vgg
from sedona_tf.backbones.backbone import Backbone
from sedona_tf.errors import UserError, unknown_name

__all__ = ["build", "names"]

_FAMILIES = {
    **{f"resnet{depth}": (resnet.resnet, depth) for depth in resnet.STAGES},
    **{f"vgg{depth}": (vgg.vgg, depth) for depth in vgg.STAGES},
}


def names() -> list[str]:
    """Names that `build` takes."""
    return list(_FAMILIES)


def build(
    name: str,
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    stem: str = "small",
) -> Backbone:
    """Builds a backbone with random weights.

    Args:
        name: one of `names()`, for example `"resnet50"`.
        input_shape: `(height, width, channels)` of the images, in pixels.
        num_classes: number of logits.
        width: channels of the first stage: 16 on CIFAR, 64 on ImageNet (paper, section 4).
        stem: `"small"` for images of about 32 pixels a side, `"imagenet"` for about 224.

    Returns:
        A `Backbone` with `units`, `head` and everything a `keras.Model` has.

    Raises:
        ValueError: for an unknown name or stem, or sizes that the architecture cannot take.

    Example:
        >>> from sedona_tf import backbones
        >>> backbone = backbones.build("resnet18", input_shape=(8, 8, 1), num_classes=10, width=8)
        >>> [unit.name for unit in backbone.units][:2], backbone.output_shape
        (['unit_1', 'unit_2'], (None, 10))
    """
    if name not in _FAMILIES:
        raise UserError(unknown_name("backbone", name, names()))
    if stem not in ("small", "imagenet"):
        raise UserError(unknown_name("stem", stem, ["small", "imagenet"]))
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UserError(
            f"input_shape must be (height, width, channels). Received: {tuple(input_shape)}"
        )
    for argument, value, least in (("num_classes", num_classes, 2), ("width", width, 4)):
        if value < least:
            raise UserError(f"{argument} must be at least {least}. Received: {value}")
    builder, depth = _FAMILIES[name]
    return builder(depth, input_shape, num_classes, width, stem)
