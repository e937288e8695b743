"""TensorBoard's files in folders of any name."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from sedona_tf.runs.event_log import EventLog


def test_a_folder_whose_name_is_not_utf_8(tmp_path, caplog):
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "logs-") + b"\xff"))
    log = EventLog(folder)
    log.write(3, lambda: tf.summary.scalar("loss", 0.5))
    log.close()
    assert not caplog.messages
    (path,) = os.listdir(os.fsencode(folder))
    assert b"loss" in (Path(os.fsdecode(os.fsencode(folder) + b"/" + path))).read_bytes()
