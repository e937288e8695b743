"""Which CPU kernels and which allocator TensorFlow uses, to be chosen before it is imported."""

from __future__ import annotations

import os
import platform
import re

__all__ = ["choose_kernels", "count_cpus", "processor", "share_of_cores"]


def choose_kernels(devices: int = 1) -> None:
    """Sets TensorFlow's variables in the environment, unless they are set.

    oneDNN's kernels stay off. In TensorFlow 2.21 those that train convolutions of few channels
    write past their memory: with one thread an operation the heap is soon corrupt, with two equal
    trainings end in different weights.

    TensorFlow's own allocator keeps freed memory and uses it again, as it does on GPUs. malloc
    gives large tensors back to the system at every step and has their pages cleared when it takes
    them again, one thread at a time: slower by a tenth, and more memory lies about. The limit, all
    of the machine's memory, makes a model that is too large fail with a message.

    Args:
        devices: logical CPU devices that share the cores; each operation gets a device's share.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))
    if devices > 1:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(share_of_cores(devices)))


def share_of_cores(devices: int) -> int:
    """Cores that each of so many devices has to itself, at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(cores // devices, 1)


def count_cpus(devices: str) -> int:
    """Logical CPU devices that names such as `CPU:0,CPU:1` need; at least one."""
    return 1 + max((int(each) for each in re.findall(r"\bCPU:(\d+)", devices)), default=0)


def processor() -> str:
    """This host's processor, as precise as the system tells it."""
    keys = "model name|cpu family|model|CPU implementer|CPU part"
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:  # not Linux
        first = ""
    found = dict(re.findall(rf"^({keys})\s*:\s*(.*\S)", first, re.MULTILINE))
    name = found.pop("model name", platform.processor() or platform.machine())
    return ", ".join([name, *(f"{key} {found[key]}" for key in sorted(found))])
