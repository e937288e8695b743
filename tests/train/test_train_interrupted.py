"""The train command when it is killed and stopped."""

from __future__ import annotations

import random
import signal
import time

import numpy as np
from search_runs import Running, command
from train_runs import METHOD, TRAIN, last_state


def test_killed_and_stopped_ends_as_the_uninterrupted_run(trained, tmp_path):
    """SIGKILL and SIGTERM, each followed by --resume: all of the state, bit for bit.

    The run is pipelined, so what stands in the buffers is part of it.
    """
    workdir, rng = tmp_path / "run", random.Random(0)
    arguments = [*TRAIN, *METHOD]
    with Running(workdir, *arguments, command="train") as run:
        run.wait_for("checkpoints/*")
        time.sleep(rng.uniform(0, 0.2))
        assert run.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (workdir / "metrics.json").exists()
    start = time.time()
    with Running(workdir, *arguments, "--resume", command="train") as run:
        run.wait_for("checkpoints/*", newer_than=start)
        asked = time.monotonic()
        code, line = run.end(signal.SIGTERM)
        assert time.monotonic() - asked < 10
    assert code == 128 + signal.SIGTERM, line
    assert line.startswith("stopped: checkpoint saved at training step")
    resumed = command("train", *arguments, f"--workdir={workdir}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    (state, history), (expected, expected_history) = map(last_state, (workdir, trained[0]))
    assert history == expected_history
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
    assert not list(workdir.rglob("*.partial"))
