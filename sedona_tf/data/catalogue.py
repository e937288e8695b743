"""Image data sets of the TensorFlow Datasets catalogue, prepared on disk or downloaded."""

from __future__ import annotations

import math
import socket
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sedona_tf.data.memory import LabelledImages, require_memory
from sedona_tf.data.resizing import resize
from sedona_tf.data.split import stratified_subset
from sedona_tf.errors import UserError, first_line, unknown_name

__all__ = ["read_catalogue"]

_DOWNLOAD_HOST = "storage.googleapis.com"


def read_catalogue(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    image_size: int = 0,
    as_stored: bool = False,
    limit: int = 0,
) -> LabelledImages:
    """Reads a split into memory; downloads and prepares the data set where it is not there yet.

    Args:
        name: as the catalogue has it, with config and version if wanted (`cifar10:3.0.2`).
        split: any split expression of TensorFlow Datasets (`train`, `train[:10%]`).
        data_dir: where prepared data sets lie; empty means TensorFlow Datasets' own default.
        image_size: height and width to resize to; 0 leaves the images as they are.
        as_stored: resize only where the data set does not declare one size.
        limit: if positive, at most so many examples, see `stratified_subset`; no other is decoded.

    Returns:
        The images, their labels, and the classes by the data set's own account.

    Raises:
        UserError: unknown name or split, `data_dir` missing, images above 4 GiB, no pairs of image
            and label, images of different sizes, or the download failed (no network).
    """
    if data_dir and not Path(data_dir).is_dir():
        raise UserError(f"data_dir '{data_dir}' is not a folder; create it or leave it empty.")
    builder = _builder(name, data_dir)
    image_key, label_key = _pair(name, builder)
    feature = builder.info.features[image_key]
    if as_stored and None not in feature.shape:
        image_size = 0
    if not builder.is_prepared():
        if builder.info.splits:
            count = _examples(name, split, builder)
            shape = (image_size, image_size, feature.shape[2]) if image_size else feature.shape
            if None not in shape:
                size = math.prod(shape) * np.dtype(feature.np_dtype).itemsize
                require_memory(name, min(count, limit or count) * size)
        _download(name, builder)
    _examples(name, split, builder)
    try:
        labels, stored = _open(builder, split, image_key, label_key)
        chosen = stratified_subset(labels, limit or len(labels))
        images = _decode(name, stored, feature, chosen, len(labels), image_size)
    except UserError:
        raise
    except Exception as error:  # Its errors have many types and many lines.
        raise UserError(f"cannot read split '{split}' of '{name}': {_line(error)}") from error
    num_classes = getattr(builder.info.features[label_key], "num_classes", None)
    return LabelledImages(images, labels[chosen], num_classes)


def _pair(name: str, builder: Any) -> tuple[str, str]:
    """The names of image and label in an example."""
    import tensorflow_datasets as tfds

    keys, features = builder.info.supervised_keys, builder.info.features
    if not keys or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise UserError(f"data '{name}' does not name a pair of image and label.")
    image, label = (features[key] for key in keys)
    integers = label.shape == () and np.issubdtype(label.np_dtype, np.integer)
    if not isinstance(image, tfds.features.Image) or not integers:
        raise UserError(f"data '{name}' has pairs of {keys[0]} and {keys[1]}, not image and class.")
    return keys


def _examples(name: str, split: str, builder: Any) -> int:
    """How many a split has."""
    try:
        count = int(builder.info.splits[split].num_examples)
    except Exception as error:  # Many types; also for expressions that it cannot read.
        raise UserError(
            f"cannot read split '{split}' of '{name}', which has {', '.join(builder.info.splits)}. "
            "Set data.train_split and data.test_split, perhaps to 'train[:90%]' and 'train[90%:]'."
        ) from error
    if not count:
        raise UserError(f"split '{split}' of '{name}' is empty.")
    return count


def _open(
    builder: Any, split: str, image_key: str, label_key: str
) -> tuple[np.ndarray, tf.data.Dataset]:
    """All labels, int32 `(N,)`, and the images as they are stored, in the same order."""
    import tensorflow_datasets as tfds

    def read(decoders: Any) -> tf.data.Dataset:
        return builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)

    examples = read(tfds.decode.PartialDecoding({label_key: True})).as_numpy_iterator()
    labels = np.array([example[label_key] for example in examples], np.int32)
    stored = read({image_key: tfds.decode.SkipDecoding()})
    return labels, stored.map(lambda example: example[image_key])


def _decode(
    name: str,
    stored: tf.data.Dataset,
    feature: Any,
    chosen: np.ndarray,
    count: int,
    image_size: int,
) -> np.ndarray:
    """The chosen images of `count`, straight into one array."""
    wanted = np.zeros(count, bool)
    wanted[chosen] = True
    dataset = tf.data.Dataset.zip((stored, tf.data.Dataset.from_tensor_slices(wanted)))
    dataset = dataset.filter(lambda _, keep: keep)
    dataset = dataset.map(lambda image, _: feature.decode_example(image), tf.data.AUTOTUNE)
    result: np.ndarray | None = None
    for index, image in enumerate(dataset.as_numpy_iterator()):
        image = resize(image[np.newaxis], image_size)[0]
        if result is None:
            require_memory(name, len(chosen) * image.nbytes)
            result = np.empty((len(chosen), *image.shape), image.dtype)
        if image.shape != result.shape[1:]:
            raise UserError(f"'{name}' has images of several sizes; set image_size.")
        result[index] = image
    if result is None:
        raise UserError(f"'{name}' has no images.")
    return result


def _builder(name: str, data_dir: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        allowed = ["digits", "idx", "synthetic"]
        raise UserError(
            unknown_name("data", name, allowed)
            + " Other names need `pip install tensorflow-datasets`."
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        allowed = ["digits", "idx", "synthetic", "a name of the TensorFlow Datasets catalogue"]
        raise UserError(unknown_name("data", name, allowed)) from error
    except Exception as error:  # A builder may need packages or files of its own.
        raise UserError(f"cannot open data '{name}': {_line(error)}") from error


def _download(name: str, builder: Any) -> None:
    failed = f"data '{name}' is not prepared in '{builder.data_dir}' and cannot be downloaded"
    # Without this, TensorFlow Datasets retries for minutes on a machine that has no network.
    if not urllib.request.getproxies():
        try:
            socket.getaddrinfo(_DOWNLOAD_HOST, 443)
        except OSError as error:
            raise UserError(f"{failed}: no network ({_DOWNLOAD_HOST} does not resolve).") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # Network, checksum, disk or manual-download trouble.
        raise UserError(f"{failed}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return first_line(error)[:300]
