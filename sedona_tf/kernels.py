"""Which CPU kernels TensorFlow uses, to be chosen before it is imported."""

from __future__ import annotations

import os

__all__ = ["choose_kernels"]


def choose_kernels(devices: int = 1) -> None:
    """Sets TensorFlow's variables in the environment, unless they are set.

    oneDNN's convolutions are faster by a third, but with one thread an operation they write past
    their memory (TensorFlow 2.21: heap corruption in training at 4 channels), so they are used
    only where there are at least two.

    Args:
        devices: logical CPU devices that share the cores; each operation gets a device's share.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if devices > 1:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(cores // devices, 1)))
    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or cores
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1" if threads > 1 else "0")
