"""Does to runs what their surroundings may do to them, and looks how they end and resume.

Every run is the command, with one thread an operation, on scikit-learn's digits. A fault must end
it in one line on stderr and exit code 2, without a traceback; then the cause is taken away, and
`--resume` must end with the result of an undisturbed run bit for bit. Each fault strikes while the
run is stopped (SIGSTOP) just after a checkpoint, so that none comes too late.

Full disks and read-only folders need the right to mount: `unshare -Urm --kill-child pytest ...`,
as in the Makefile, gives it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from robustness.commands import SHORT, Disturbed
from search_runs import ENVIRONMENT, ROOT, Running

pytestmark = pytest.mark.robustness
DETECTION = 60.0
"""Seconds within which a lost worker must be reported."""
DAY = 86_400
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

/* Seconds that the wall clock is off: 0, a day, minus a day, a second and a half each. */
static long off(int (*real)(clockid_t, struct timespec *)) {
  static const long offs[] = {0, DAY, -DAY};
  struct timespec now;
  real(CLOCK_MONOTONIC, &now);
  return offs[(now.tv_sec * 2 + now.tv_nsec / 500000000) / 3 % 3];
}

int clock_gettime(clockid_t clock, struct timespec *result) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, result);
  if (clock == CLOCK_REALTIME) result->tv_sec += off(real);
  return code;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  result->tv_sec = now.tv_sec;
  result->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result) *result = now.tv_sec;
  return now.tv_sec;
}
"""


class Run(Running):
    """A command in the background that is stopped and goes on."""

    def __init__(self, command: Disturbed, workdir: Path, *arguments: str, **environment: str):
        super().__init__(
            workdir, *command.arguments, *arguments, command=command.name, **environment
        )
        self.started = command.started

    def stop_in_the_middle(self) -> None:
        """Stops the process once its first files are there."""
        self.wait_for(self.started)
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def finish(self, code: int = 0, words: str = "") -> None:
        """Waits for the end: this exit code, and unless it is 0 one line with these words."""
        _, log = self.process.communicate(timeout=300)
        errors = [line for line in log.splitlines() if line.startswith("error: ")]
        assert self.process.returncode == code and "Traceback" not in log, log
        assert len(errors) == (code != 0) and all(words in line for line in errors), log


@pytest.fixture
def start():
    """Starts runs; those that are left at the end of a test are killed."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Run(*arguments, **options))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The result of a run that nothing happens to, made on first use."""
    results, folder = {}, tmp_path_factory.mktemp("undisturbed")

    def result(command: Disturbed):
        if command.name not in results:
            workdir = folder / command.name
            with Run(command, workdir) as run:
                run.finish()
            results[command.name] = command.result(workdir)
        return results[command.name]

    return result


@pytest.fixture
def resumes_alike(start, undisturbed):
    """Resumes a run; its result must be the undisturbed one's."""

    def check(command: Disturbed, workdir: Path) -> None:
        start(command, workdir, "--resume").finish()
        assert command.result(workdir) == undisturbed(command)
        assert not list(workdir.rglob("*.partial"))

    return check


@contextlib.contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """Something mounted on a folder, seen in this mount namespace only if it has its own."""
    if subprocess.run(["mount", *arguments, at], check=False).returncode:
        pytest.skip("no right to mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody can write to who comes by its name from now on."""
    with mounted("--bind", str(folder), at=folder):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield


def commands(*names: str):
    """A case for each command, or for those named."""
    chosen = [command for command in SHORT if command.name in (names or command.name)]
    return pytest.mark.parametrize("command", chosen, ids=lambda command: command.name)


@commands("search", "train")
def test_a_full_disk(command, tmp_path, start, resumes_alike):
    """No space is left from the first checkpoint on; then there is some again."""
    workdir, ballast = tmp_path / "disk" / "run", tmp_path / "disk" / "ballast"
    workdir.parent.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", at=workdir.parent):
        run = start(command, workdir)
        run.stop_in_the_middle()
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert not shutil.disk_usage(workdir).free
        run.go_on()
        run.finish(2, "No space left on device")
        ballast.unlink()
        resumes_alike(command, workdir)


@commands("search", "train")
def test_a_read_only_folder(command, tmp_path, start, resumes_alike):
    """The folder is read-only from the start, and becomes so in mid-run."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    with read_only(workdir):
        start(command, workdir).finish(2, "Read-only file system")
    run = start(command, workdir)
    run.stop_in_the_middle()
    with read_only(workdir):
        run.go_on()
        run.finish(2, "Read-only file system")
    resumes_alike(command, workdir)


@commands()
def test_two_runs_in_a_folder(command, tmp_path, start, resumes_alike):
    """A second run is refused while the first is there; SIGKILL frees the lock."""
    workdir = tmp_path / "run"
    first = start(command, workdir)
    first.stop_in_the_middle()
    start(command, workdir, "--resume").finish(2, "in use by another run")
    first.process.kill()
    first.process.wait()
    resumes_alike(command, workdir)


@commands("search", "train")
def test_a_clock_that_jumps(command, tmp_path, start, undisturbed):
    """The wall clock is off by 0, a day and minus a day, in turn, throughout the run."""
    source, library, workdir = (tmp_path / name for name in ("clock.c", "clock.so", "run"))
    source.write_text(CLOCK)
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    options = ["-shared", "-fPIC", f"-DDAY={DAY}", "-o", library, source, "-ldl"]
    subprocess.run(["cc", *options], check=True)
    start(command, workdir, LD_PRELOAD=str(library)).finish()
    assert command.result(workdir) == undisturbed(command)
    assert clock_range(workdir) > DAY / 2


def clock_range(workdir: Path) -> float:
    """Seconds between the earliest and the latest time in TensorBoard's files."""
    times = []
    for path in workdir.rglob("*tfevents*"):
        data, start = path.read_bytes(), 0
        while start + 12 <= len(data):  # length, its checksum, the record, its checksum
            (length,) = struct.unpack_from("<Q", data, start)
            if data[start + 12 : start + 13] == b"\x09":  # field 1 of an event, a double: the time
                times.append(struct.unpack_from("<d", data, start + 13)[0])
            start += 16 + length
    return max(times) - min(times)


@commands()
def test_a_folder_deleted_in_mid_run_stays_so(command, tmp_path, start):
    workdir = tmp_path / "run"
    run = start(command, workdir)
    run.stop_in_the_middle()
    shutil.rmtree(workdir)
    run.go_on()
    run.finish(2, str(workdir))
    assert not workdir.exists()


@commands("search", "train")
def test_another_run_in_a_folder_deleted_in_mid_run(command, tmp_path, start, undisturbed):
    """It is not written to."""
    workdir, other = tmp_path / "run", tmp_path / "other"
    run = start(command, workdir)
    run.stop_in_the_middle()
    shutil.rmtree(workdir)
    second = start(command, workdir)
    second.stop_in_the_middle()
    shutil.copytree(workdir, other)
    run.go_on()
    run.finish(2, "was deleted or replaced")
    assert sizes(workdir) == sizes(other)
    second.go_on()
    second.finish()
    assert command.result(workdir) == undisturbed(command)


def sizes(folder: Path) -> dict[str, int]:
    """All files of a folder and their sizes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


@contextlib.contextmanager
def worker(log: Path, address: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen, str]]:
    """A worker that is ready, and its address."""
    with open(log, "ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sedona_tf.worker", f"--port={address.rpartition(':')[2]}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
    try:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if "ready on" in line), None)
        assert ready, log.read_text()
        yield process, ready.split()[-1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("blow", ["killed", "stopped", "restarted"])
def test_a_lost_worker(blow, tmp_path, start):
    """One of two workers is lost in the middle of pipelined training."""
    (command,) = (command for command in SHORT if command.name == "train")
    workdir, log = tmp_path / "run", tmp_path / "workers.log"
    with worker(log) as (_, healthy), contextlib.ExitStack() as stack:
        victim, lost = stack.enter_context(worker(log))
        cluster = f"--cluster={healthy},{lost}"
        start(command, tmp_path / "undisturbed", cluster).finish()
        run = start(command, workdir, cluster)
        run.stop_in_the_middle()
        victim.send_signal(signal.SIGSTOP if blow == "stopped" else signal.SIGKILL)
        if blow == "restarted":
            victim.wait()
            stack.enter_context(worker(log, lost))
        run.go_on()
        struck = time.monotonic()
        run.finish(2, "started again" if blow == "restarted" else f"worker {lost} (task 1)")
        assert time.monotonic() - struck <= DETECTION
        if blow == "stopped":
            victim.send_signal(signal.SIGCONT)
        if blow == "killed":
            victim.wait()
            stack.enter_context(worker(log, lost))
        start(command, workdir, "--resume", cluster).finish()
        assert command.result(workdir) == command.result(tmp_path / "undisturbed")
