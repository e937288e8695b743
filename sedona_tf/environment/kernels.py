"""Which CPU kernels and which allocator TensorFlow uses, to be chosen before it is imported."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence

from sedona_tf.environment.cgroups import core_limit, memory_limit

__all__ = [
    "choose_kernels",
    "count_cpus",
    "keep_to_share_of_cores",
    "processor",
    "share_of_cores",
    "usable_cores",
]


def choose_kernels(devices: int = 1) -> None:
    """Sets TensorFlow's variables in the environment, unless they are set.

    oneDNN's kernels stay off. In TensorFlow 2.21 those that train convolutions of few channels
    write past their memory: with one thread an operation the heap is soon corrupt, with two equal
    trainings end in different weights.

    TensorFlow's own allocator keeps freed memory and uses it again, as it does on GPUs. malloc
    gives large tensors back to the system at every step and has their pages cleared when it takes
    them again, one thread at a time: slower by a tenth, and more memory lies about. The limit is
    all memory of the machine or the container. It makes a model that is too large fail with a
    message.

    TensorFlow makes a thread for every core that the process may use. It ignores limits on time, so
    under such a limit the number of threads is set here.

    Args:
        devices: logical CPU devices that share the cores; each operation gets a device's share.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = int(min(memory, memory_limit()))
    os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))
    if devices > 1 or usable_cores() < _allowed_cores():
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(share_of_cores(devices)))


def usable_cores() -> int:
    """Whole cores that this process may use, by affinity and by a limit on its time; at least one.

    `os.cpu_count` counts the machine's cores.
    """
    return max(int(min(_allowed_cores(), core_limit())), 1)


def share_of_cores(devices: int) -> int:
    """Cores that each of so many devices has to itself, at least one."""
    return max(usable_cores() // devices, 1)


def keep_to_share_of_cores(devices: int) -> None:
    """Keeps this process to the cores that one of several CPU devices has to itself.

    Sets the process' CPU affinity, for good: only a command may call it, before TensorFlow starts.
    """
    if devices > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: share_of_cores(devices)])


def count_cpus(devices: str | Sequence[str]) -> int:
    """Number of logical CPU devices that names need in this process; at least one.

    Args:
        devices: names, or a text of them with commas, such as `CPU:0,CPU:1`. Those of other hosts,
            such as `/job:worker/task:0/device:CPU:3`, need none here.

    Example:
        >>> count_cpus("cpu:0, /device:CPU:2"), count_cpus("/job:worker/task:0/device:CPU:3")
        (3, 1)
    """
    names = devices.split(",") if isinstance(devices, str) else devices
    here = [name for name in names if not re.search(r"/job:(?!localhost\b)", name, re.IGNORECASE)]
    found = [re.search(r"(?:^|[/:])CPU:(\d+)$", name.strip(), re.IGNORECASE) for name in here]
    return 1 + max((int(match[1]) for match in found if match), default=0)


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """This host's processor, as precisely as the system names it."""
    keys = "model name|cpu family|model|CPU implementer|CPU part"
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:  # not Linux
        first = ""
    found = dict(re.findall(rf"^({keys})\s*:\s*(.*\S)", first, re.MULTILINE))
    name = found.pop("model name", platform.processor() or platform.machine())
    return ", ".join([name, *(f"{key} {found[key]}" for key in sorted(found))])
