"""Backbones by name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import keras

from sedona_tf.backbones import resnet, vgg
from sedona_tf.backbones.backbone import Backbone
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError, unknown_name

__all__ = ["build", "names"]

_FAMILIES = {
    **{f"resnet{depth}": (resnet.resnet, depth) for depth in resnet.STAGES},
    **{f"vgg{depth}": (vgg.vgg, depth) for depth in vgg.STAGES},
}


KERAS_PREFIX = "keras:"
"""Of the names of `keras.applications`' architectures."""

_DEFAULT_WIDTH, _DEFAULT_STEM = 16, "small"


def names() -> list[str]:
    """Names that `build` takes, besides those of `keras.applications`."""
    return list(_FAMILIES)


def keras_names() -> list[str]:
    """Names of `keras.applications` that `build` takes after `keras:`."""
    functions = inspect.getmembers(keras.applications, inspect.isfunction)
    return [
        name for name, function in functions if "classes" in inspect.signature(function).parameters
    ]


def build(
    name: str,
    input_shape: Sequence[int],
    num_classes: int,
    width: int = _DEFAULT_WIDTH,
    stem: str = _DEFAULT_STEM,
    max_units: int = 0,
) -> Backbone:
    """Builds a backbone with random weights.

    Args:
        name: one of `names()`, for example `"resnet50"`; or `"keras:"` and a name of
            `keras.applications`, for example `"keras:ResNet50"`: that network without its
            preprocessing (where it can be left out; EfficientNetB0 to B7 always divide by 255),
            cut by `Backbone.from_keras`. It has its own width and stem, so these two must be
            the defaults.
        input_shape: `(height, width, channels)` of the images, in pixels.
        num_classes: number of logits.
        width: channels of the first stage: 16 on CIFAR, 64 on ImageNet (paper, section 4).
        stem: `"small"` for images of about 32 pixels a side, `"imagenet"` for about 224.
        max_units: of `"keras:"` networks, see `Backbone.from_keras`; 0 for no limit, which the
            others must have.

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
    if name not in _FAMILIES and not name.startswith(KERAS_PREFIX):
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
    if name.startswith(KERAS_PREFIX):
        if (width, stem) != (_DEFAULT_WIDTH, _DEFAULT_STEM):
            raise UserError(
                f"'{name}' has its own width and stem: leave them at {_DEFAULT_WIDTH} and "
                f"'{_DEFAULT_STEM}'. Received: {width} and '{stem}'"
            )
        return _application(name.removeprefix(KERAS_PREFIX), input_shape, num_classes, max_units)
    if max_units:
        raise UserError(
            f"max_units is for '{KERAS_PREFIX}' backbones; leave it at 0 for '{name}'. "
            f"Received: {max_units}"
        )
    builder, depth = _FAMILIES[name]
    return builder(depth, input_shape, num_classes, width, stem)


def _application(
    name: str, input_shape: Sequence[int], num_classes: int, max_units: int
) -> Backbone:
    if name not in keras_names():
        raise UserError(unknown_name("architecture of keras.applications", name, keras_names()))
    function = getattr(keras.applications, name)
    options = {"weights": None, "classes": num_classes, "classifier_activation": None}
    if "include_preprocessing" in inspect.signature(function).parameters:
        options["include_preprocessing"] = False
    try:
        with process_settings(data_format="channels_last"):
            model = function(input_shape=tuple(input_shape), **options)
    except ValueError as error:  # for example of images that are too small
        reason = " ".join(str(error).split())
        raise UserError(f"{KERAS_PREFIX}{name} cannot be built: {reason}") from error
    # A colon is no scope of TensorFlow.
    return Backbone.from_keras(model, max_units or None, name=f"keras_{name}")
