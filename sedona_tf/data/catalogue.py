"""Image data sets of the TensorFlow Datasets catalogue, prepared on disk or downloaded."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from sedona_tf.data.resizing import resize
from sedona_tf.errors import UserError, first_line, unknown_name

__all__ = ["read_catalogue"]

_LARGEST = 4 * 2**30
_HOST = "storage.googleapis.com"


def read_catalogue(
    name: str, split: str, *, data_dir: str = "", image_size: int = 0, as_stored: bool = False
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Reads a split into memory; downloads and prepares the data set where it is not there yet.

    Args:
        name: as the catalogue has it, with config and version if wanted (`cifar10:3.0.2`).
        split: any split expression of TensorFlow Datasets (`train`, `train[:10%]`).
        data_dir: where prepared data sets lie; empty means TensorFlow Datasets' own default.
        image_size: height and width to resize to; 0 leaves the images as they are.
        as_stored: resize only where the data set does not declare one size.

    Returns:
        `(images, labels, num_classes)`: uint8 or float32 `(N, H, W, C)`, int32 `(N,)`, and the
        classes by the data set's own account, None where it gives none.

    Raises:
        UserError: unknown name or split, `data_dir` missing, data set above 4 GiB, no pairs of
            image and label, images of different sizes, or the download failed (no network).
    """
    if data_dir and not Path(data_dir).is_dir():
        raise UserError(f"data_dir '{data_dir}' is not a folder; create it or leave it empty.")
    builder = _builder(name, data_dir)
    _refuse_large(name, builder)
    if not builder.is_prepared():
        _download(name, builder)
        _refuse_large(name, builder)
    try:
        images_feature = builder.info.features[builder.info.supervised_keys[0]]
        if as_stored and None not in images_feature.shape:
            image_size = 0
        dataset = builder.as_dataset(split=split, as_supervised=True, shuffle_files=False)
        pairs = [
            (resize(image[np.newaxis], image_size)[0], label)
            for image, label in dataset.as_numpy_iterator()
        ]
    except Exception as error:  # Its errors have many types and many lines.
        raise UserError(f"cannot read split '{split}' of '{name}': {_line(error)}") from error
    if not pairs:
        raise UserError(f"split '{split}' of '{name}' is empty.")
    shapes = {image.shape for image, _ in pairs}
    if len(shapes) > 1:
        raise UserError(f"'{name}' has images of {len(shapes)} sizes; set image_size.")
    label_feature = builder.info.features[builder.info.supervised_keys[1]]
    return (
        np.stack([image for image, _ in pairs]),
        np.array([label for _, label in pairs], np.int32),
        getattr(label_feature, "num_classes", None),
    )


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
            socket.getaddrinfo(_HOST, 443)
        except OSError as error:
            raise UserError(f"{failed}: no network ({_HOST} does not resolve).") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # Network, checksum, disk or manual-download trouble.
        raise UserError(f"{failed}: {_line(error)}") from error


def _refuse_large(name: str, builder: Any) -> None:
    size = int(builder.info.dataset_size or 0)
    if size > _LARGEST:
        raise UserError(
            f"data '{name}' has {size / 2**30:.1f} GiB; data is held in memory. Allowed: 4 GiB."
        )


def _line(error: Exception) -> str:
    return first_line(error)[:300]
