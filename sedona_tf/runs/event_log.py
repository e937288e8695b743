"""TensorBoard's files of a run; a failure to write them does not end the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from sedona_tf.errors import first_line, operation_failure

__all__ = ["EventLog"]


class EventLog:
    """Writes TensorBoard's files; a failure is reported in one line and ends the writing.

    The run keeps its numbers elsewhere. So a full disk, or a name that TensorBoard cannot use,
    costs TensorBoard's curves only.

    Args:
        folder: of the files; made with the first record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: tf.summary.SummaryWriter | None = None
        self._failed = False

    def write(self, step: int, record: Callable[[], None]) -> None:
        """Calls `record` with the step set for `tf.summary`, unless writing has failed.

        Args:
            step: of the run's phase.
            record: writes summaries. Numbers must be NumPy's. TensorFlow keeps every Python
                number in memory until the process ends, some 0.7 KB each.
        """
        if self._failed:
            return
        try:
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(os.fsencode(self._folder))
            # A callback of the user's may have switched recording off.
            with self._writer.as_default(step=np.int64(step)), tf.summary.record_if(True):
                record()
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None and not self._failed:
            try:
                self._writer.close()
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        if isinstance(error, tf.errors.OpError):
            reason = operation_failure(str(error.message))
        else:
            reason = first_line(error)
        logging.warning(f"TensorBoard gets nothing more of this run: {reason}")
