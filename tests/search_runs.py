"""Commands in processes of their own, and the smallest search that has every part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "recipes/digits.py:smoke")
SMALL = [
    f"--recipe={DIGITS}",
    "--recipe.search.space.depth=(1,)",
    "--recipe.search.inner_steps=1",
    "--recipe.search.pretraining_steps=8",
    "--recipe.search.steps=6",
    "--recipe.search.checkpoint_every=2",
    "--recipe.search.batch_size=16",
    "--recipe.search.validation_batch_size=16",
]
# One set of kernels and one thread an operation: rounding differs between kernels, Adam amplifies
# it, and on an overloaded machine two threads were once seen to differ. oneDNN's kernels crashed
# with one thread, so they are off here.
ENVIRONMENT = {
    **os.environ,
    "TF_CPU_ALLOCATOR_USE_BFC": "1",  # as the commands do; tests in this process do not
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
}


def search(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Runs the search to its end; see `command`."""
    return command("search", *arguments, **options)


def command(
    name: str, *arguments: str, timeout: float = 600, env: dict = ENVIRONMENT, **options
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; options as of `subprocess.run`."""
    return subprocess.run(
        [sys.executable, "-m", f"sedona_tf.{name}", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
        check=False,
        **options,
    )


def help_of(name: str) -> tuple[str, set[str]]:
    """What `--help` of a command prints, and the modules that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"sedona_tf.{name}", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout, {line.split("|")[-1].strip() for line in done.stderr.splitlines()}


class Running:
    """The command in the background; killed on leaving the `with` block."""

    def __init__(
        self, workdir: Path, *arguments: str, command: str = "search", **environment: str
    ) -> None:
        self.workdir, self.environment = workdir, ENVIRONMENT | environment
        self.module = f"sedona_tf.{command}"
        self.arguments = [f"--workdir={workdir}", *arguments]

    def __enter__(self) -> Running:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, *self.arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for(self, pattern: str, newer_than: float = 0.0, timeout: float = 300) -> None:
        """Returns once a file of the run matches a pattern and was written after a time."""
        end = time.monotonic() + timeout
        while not any(
            path.stat().st_mtime > newer_than for path in existing(self.workdir, pattern)
        ):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, f"no {pattern} after {timeout} s"
            time.sleep(0.01)

    def end(self, signal: int) -> tuple[int, str]:
        """Sends a signal; returns the exit code and the last line on stderr."""
        self.process.send_signal(signal)
        _, errors = self.process.communicate(timeout=300)
        return self.process.returncode, (errors.strip().splitlines() or [""])[-1]


def existing(folder: Path, pattern: str) -> list[Path]:
    """Files that match and are complete; the names of the others begin with a dot."""
    return [path for path in folder.glob(pattern) if not path.name.startswith(".")]


def scores(workdir: Path) -> tuple:
    """Alpha and beta of a run's plan, bit for bit."""
    plan = json.loads((workdir / "plan.json").read_text())
    return plan["alpha"], plan["beta"]


def refused(result: subprocess.CompletedProcess[str], message: str) -> None:
    """Checks that a run ended in one line that holds `message`, and exit code 2."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last, last
