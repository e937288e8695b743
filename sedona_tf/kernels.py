"""Which CPU kernels TensorFlow uses, to be chosen before it is imported."""

from __future__ import annotations

import os

__all__ = ["choose_kernels"]


def choose_kernels(devices: int = 1) -> None:
    """Sets TensorFlow's variables in the environment, unless they are set.

    oneDNN's kernels stay off. In TensorFlow 2.21 those that train convolutions of few channels
    write past their memory: with one thread an operation the heap is soon corrupt, with two equal
    trainings end in different weights.

    Args:
        devices: logical CPU devices that share the cores; each operation gets a device's share.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if devices > 1:
        cores = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(cores // devices, 1)))
