"""Labelled images held in memory, checked when they are loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os

import ml_collections
import numpy as np

from sedona_tf.data.catalogue import read_catalogue
from sedona_tf.data.idx import read_folder
from sedona_tf.data.memory import LabelledImages, require_memory
from sedona_tf.data.resizing import resize
from sedona_tf.data.split import bilevel_split, stratified_subset
from sedona_tf.data.synthetic import synthetic
from sedona_tf.errors import UserError, unknown_name

__all__ = ["Source", "load", "load_section"]

_SPLITS = ("train", "test")
_LOCAL_SOURCES = ("digits", "idx", "synthetic")
_CHUNK_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled images.

    Attributes:
        name: for messages.
        images: `(N, H, W, C)`, uint8 from 0 to 255 or float32 from 0 to 1.
        labels: int32 `(N,)`, in `[0, num_classes)`.
        num_classes: of the task; more than the labels use is allowed.

    Raises:
        UserError: any of this does not hold, N is 0, or an image has a NaN or an infinity; names
            the first such image, from 0.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4:
            raise self._wrong(f"images have shape {images.shape}", "(N, H, W, C)")
        if images.dtype not in (np.uint8, np.float32):
            raise self._wrong(f"images are {images.dtype}", "uint8, float32")
        if labels.ndim != 1 or labels.dtype != np.int32:
            raise self._wrong(f"labels are {labels.dtype} {labels.shape}", "int32 (N,)")
        if len(images) != len(labels):
            raise self._wrong(f"{len(images)} images, {len(labels)} labels", "as many of each")
        if images.size == 0:
            raise self._wrong(f"no images (shape {images.shape})", "at least one")
        outside = (labels < 0) | (labels >= self.num_classes)
        if outside.any():
            first = int(np.argmax(outside))
            raise self._wrong(
                f"image {first} has label {labels[first]}",
                f"0 to num_classes - 1 = {self.num_classes - 1}",
            )
        if images.dtype == np.float32:
            for start in range(0, len(images), _CHUNK_SIZE):
                finite = np.isfinite(images[start : start + _CHUNK_SIZE]).all(axis=(1, 2, 3))
                if not finite.all():
                    first = start + int(np.argmin(finite))
                    raise self._wrong(f"image {first} is not finite", "no NaN, no infinity")

    @property
    def digest(self) -> str:
        """SHA-256 of the images and labels, their order, shape and type, in hexadecimal."""
        found = hashlib.sha256()
        for array in (self.images, self.labels):
            found.update(f"{array.dtype.str} {array.shape};".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def _wrong(self, found: str, allowed: str) -> UserError:
        return UserError(f"data '{self.name}': {found}. Allowed: {allowed}.")


def load(
    config_name: str,
    split: str,
    *,
    data_dir: str = "",
    num_classes: int | None = None,
    limit: int = 0,
    image_size: int = 0,
    as_stored: bool = False,
    first_label: int = 0,
) -> Source:
    """Loads a split into memory.

    Args:
        config_name: `digits` (scikit-learn's, 8 x 8 x 1, a fixed 80/20 split), `idx` (MNIST's
            files in `data_dir`), `synthetic` (made from a seed), or a name of the TensorFlow
            Datasets catalogue.
        split: `train` or `test`; for the catalogue any of its split expressions.
        data_dir: folder of the IDX files or of prepared data sets; the other names ignore it.
        num_classes: of the task; None takes the data's own (`synthetic`: 10).
        limit: if positive, at most so many examples, class-stratified, always the same ones;
            `synthetic` makes so many (0: 1024).
        image_size: if positive, height and width to resize to (`synthetic`: 0 is 32).
        first_label: of `idx`, the first class in its files.
        as_stored: leave the images at the size they are stored at; not those of a data set of the
            catalogue that does not declare one size, nor `synthetic`, which has none.

    Returns:
        The checked source.

    Raises:
        UserError: an argument is wrong, data are missing or damaged, or `Source` refuses them.

    Example:
        >>> load("digits", "train").images.shape
        (1438, 8, 8, 1)
    """
    for argument, value in (("limit", limit), ("image_size", image_size)):
        if value < 0:
            raise UserError(f"{argument} must not be negative. Received: {value}.")
    if num_classes is not None and num_classes < 1:
        raise UserError(f"num_classes must be positive. Received: {num_classes}.")
    if config_name in _LOCAL_SOURCES and split not in _SPLITS:
        raise UserError(unknown_name("split", split, _SPLITS))
    if config_name == "digits":
        found = _digits(split)
    elif config_name == "idx":
        found = read_folder(data_dir, split, first_label, num_classes)
    elif config_name == "synthetic":
        require_memory(config_name, (limit or 1024) * (image_size or 32) ** 2 * 3)
        found = synthetic(
            split, count=limit or 1024, image_size=image_size or 32, num_classes=num_classes or 10
        )
    else:
        found = read_catalogue(
            config_name,
            split,
            data_dir=data_dir,
            image_size=image_size,
            as_stored=as_stored,
            limit=limit,
        )
    images, labels, own_classes = found
    num_classes = own_classes if num_classes is None else num_classes
    if num_classes is None:
        raise UserError(f"data '{config_name}' does not tell its classes; set num_classes.")
    source = Source(config_name, images, labels, num_classes)
    if 0 < limit < len(labels):
        chosen = stratified_subset(labels, limit)
        images, labels = images[chosen], labels[chosen]
    if not as_stored:
        pixels = image_size**2 if image_size else math.prod(images.shape[1:3])
        require_memory(config_name, len(images) * pixels * images.shape[3] * images.itemsize)
        images = resize(images, image_size)
    return dataclasses.replace(source, images=images, labels=labels)


def load_section(
    settings: ml_collections.ConfigDict,
    split: str,
    *,
    num_classes: int | None = None,
    limit: int = 0,
    as_stored: bool = False,
) -> Source:
    """Loads what a recipe's section `data` names for `train` or `test`; otherwise as `load`."""
    return load(
        settings.source,
        settings[f"{split}_split"],
        data_dir=os.path.expanduser(settings.data_dir),
        num_classes=num_classes,
        limit=limit,
        image_size=settings.image_size,
        as_stored=as_stored,
        first_label=settings.first_label,
    )


def _digits(split: str) -> LabelledImages:
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int32)
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    chosen = bilevel_split(labels, fraction=0.2, seed=0)[_SPLITS.index(split)]
    return LabelledImages(images[chosen], labels[chosen], 10)
