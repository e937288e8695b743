"""Limits of control groups, on file trees as the kernel shows them."""

from __future__ import annotations

import math

import pytest

from sedona_tf.environment.cgroups import core_limit, memory_limit

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
GROUPS = "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/\n"
NONE = 9223372036854771712  # what version 1 says without a limit
CASES = {
    "none": ({}, math.inf, math.inf),
    "v2": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/cpu.max": "max 100000",
            "sys/fs/cgroup/user/job/memory.max": "1000",
            "sys/fs/cgroup/user/cpu.max": "150000 100000",
            "sys/fs/cgroup/user/memory.max": "max",
            "sys/fs/cgroup/other/cpu.max": "1000 100000",
        },
        1.5,
        1000,
    ),
    "v2, no limit": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "max 100000",
            "sys/fs/cgroup/memory.max": "max",
        },
        math.inf,
        math.inf,
    ),
    "v1": (
        {
            "proc/self/mountinfo": V1.format(root="/"),
            "proc/self/cgroup": GROUPS,
            "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{NONE}",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000",
        },
        3.0,
        2000,
    ),
    "v1 in a container that is mounted in part": (
        {
            "proc/self/mountinfo": V1.format(root="/docker/1"),
            "proc/self/cgroup": GROUPS,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000",
        },
        0.5,
        3000,
    ),
}


@pytest.mark.parametrize("files, cores, memory", CASES.values(), ids=CASES)
def test_the_lowest_limit_up_to_the_top_holds(tmp_path, files, cores, memory):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert (core_limit(tmp_path), memory_limit(tmp_path)) == (cores, memory)
