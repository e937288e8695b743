"""From a trained run to a version of a model that TensorFlow Serving finds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.types.experimental import ConcreteFunction

from sedona_tf import data as data_lib
from sedona_tf.errors import UserError, first_line
from sedona_tf.export.models_config import add_model, read_config, write_config
from sedona_tf.export.signatures import Preprocessing, build_signatures
from sedona_tf.export.warmup import BATCH_SIZES, write_warmup
from sedona_tf.files import atomic_folder, locked, make_folder, remove_partial
from sedona_tf.train.trained_run import TrainedRun, load_run

__all__ = ["choose_version", "publish", "save_signatures"]


def publish(
    workdir: Path, output: Path, *, version: int | None = None, served_from: str = "/models"
) -> tuple[int, list[str]]:
    """Writes a version of a model, whole or not at all, and its entry in `models.config`.

    Args:
        workdir: folder of the run.
        output: folder of the model's versions; its name is the model's, and beside it lie the
            other models and `models.config`.
        version: see `choose_version`.
        served_from: where the server sees the folder that `output` is in.

    Returns:
        The version's number and the names of its signatures.

    Raises:
        UserError: if the folder holds no trained run, the version exists, `models.config` is
            damaged, `served_from` is not absolute, or something cannot be written.
    """
    output = output.absolute()
    if not output.name:
        raise UserError(f"output must be a folder such as models/NAME. Received: {output}")
    if not served_from.startswith("/") and "://" not in served_from:
        raise UserError(f"served_from must be an absolute path or URI. Received: {served_from}")
    choose_version(output, version)  # before anything that takes long
    listed = output.parent / "models.config"
    base_path = f"{served_from.rstrip('/')}/{output.name}"
    add_model(read_config(listed), output.name, base_path)
    run = load_run(workdir)
    if run.step < run.steps:
        words = f"exporting step {run.step} of {run.steps}"
        logging.info(f"the training has not ended: {words}")
    stored = _stored_images(run)
    signatures = _signatures(run, stored)
    with locked(output.parent):
        make_folder(output)
        remove_partial(output)
        version = choose_version(output, version)
        was = read_config(listed)
        config = add_model(was, output.name, base_path)
        with atomic_folder(output / str(version)) as folder:
            logging.info("saving the model")
            save_signatures(folder, signatures)
            scale = 1 if stored.images.dtype == np.uint8 else 255
            write_warmup(folder, output.name, signatures, stored.images * scale)
        if config != was:  # writing it again would lose comments
            write_config(listed, config)
    return version, sorted(signatures)


def choose_version(output: Path, version: int | None) -> int:
    """The number of a new version.

    Args:
        output: folder of the versions, or nothing yet.
        version: the number wanted; None for one more than the newest, from 1.

    Raises:
        UserError: if the version is there already, or the folder cannot be read.
    """
    try:
        names = [path.name for path in output.iterdir()] if output.exists() else []
    except OSError as error:
        raise UserError(f"cannot use {output}: {error.strerror or error}.") from error
    taken = {int(name) for name in names if re.fullmatch("[0-9]+", name)}
    if version in taken:
        raise UserError(f"{output / str(version)} exists already; take another --version.")
    return max(taken, default=0) + 1 if version is None else version


def save_signatures(folder: Path, signatures: Mapping[str, ConcreteFunction]) -> None:
    """Writes functions as a SavedModel that holds their variables and nothing else.

    Raises:
        UserError: if the operating system refuses.
    """
    module = tf.Module()
    used = {v.ref(): v for function in signatures.values() for v in function.graph.variables}
    module.variables_of_signatures = list(used.values())
    # Nobody trains what is served, so no gradients.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(folder), signatures=dict(signatures), options=options)
    except tf.errors.OpError as error:
        reason = first_line(error)
        raise UserError(f"cannot write {folder}: {reason}") from error


def _stored_images(run: TrainedRun) -> data_lib.Source:
    """A few test images as the data set has them."""
    classes, count = run.data.num_classes, max(BATCH_SIZES)
    return data_lib.load_section(
        run.recipe.data, "test", num_classes=classes, limit=count, as_stored=True
    )


def _signatures(run: TrainedRun, stored: data_lib.Source) -> dict[str, ConcreteFunction]:
    height, width, _ = run.data.input_shape
    preprocessing = Preprocessing(
        stored_shape=stored.images.shape[1:],
        size=(height, width),
        whole=stored.images.dtype == np.uint8,
        normalization=run.data.normalization,
    )
    temperatures = None
    if len(run.model.blocks) > 1:
        temperatures = run.ensemble().temperatures
    return build_signatures(run.model, preprocessing, temperatures)
