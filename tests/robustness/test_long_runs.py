"""A search, a pipelined training and `fit` run for hours; what they hold does not grow.

All run side by side until SIGTERM ends them: search and training as the commands would, on
scikit-learn's digits; `fit` in Python, on data of unknown length whose pictures fail now and then.
They run for `MINUTES` (30), of which `WARM_UP` (15) do not count.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys

import pytest
from robustness import long_run
from search_runs import ENVIRONMENT, ROOT

pytestmark = pytest.mark.robustness
MINUTES = float(os.environ.get("MINUTES", 30))
WARM_UP = float(os.environ.get("WARM_UP", 15))
GROWTH = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the runs left their notes."""
    folder, children = tmp_path_factory.mktemp("runs"), {}
    for name in long_run.RUNS:
        with open(folder / f"{name}.log", "wb") as log:
            children[name] = subprocess.Popen(
                [sys.executable, long_run.__file__, name, str(folder), str(MINUTES)],
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                cwd=ROOT,
            )
    for name, child in children.items():
        assert child.wait() == 128 + signal.SIGTERM, (folder / f"{name}.log").read_text()[-500:]
    return folder


@pytest.mark.parametrize("name", long_run.RUNS)
def test_memory_files_and_functions_do_not_grow(folder, name):
    """From the warm-up on; of memory and files, medians of the first and the last tenth."""
    notes = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    warm = [each for each in notes if each["minute"] - notes[0]["minute"] >= WARM_UP]
    tenth = max(1, len(warm) // 10)
    print(name, warm[0], warm[-1])

    def ends(field: str) -> list[float]:
        return [
            statistics.median(each[field] for each in part)
            for part in (warm[:tenth], warm[-tenth:])
        ]

    first, last = ends("rss_mib")
    assert last <= first * (1 + GROWTH)
    assert warm[0]["traced"] == warm[-1]["traced"]
    assert len(set(ends("files"))) == 1
    assert name == "fit" or warm[0]["saved"] != warm[-1]["saved"]  # it went on
