"""Does to runs what their surroundings may do to them, and looks how they end and resume.

Usage: python benchmarks/faults.py [--only full_disk_search,cluster_killed] [--keep FOLDER]

Every run is the command, with one thread an operation, on scikit-learn's digits. A fault must end
it in one line on stderr and exit code 2, without a traceback; then the cause is taken away, and
`--resume` must end with the result of an undisturbed run bit for bit. Each fault strikes while the
run is stopped (SIGSTOP) just after a checkpoint, so that none comes too late.

full_disk, read_only    a small tmpfs, and a read-only bind mount, in a mount namespace of their own
two_runs                a second run in the folder is refused; SIGKILL frees the lock
clock                   the wall clock jumps by a day, back and forth, by a preloaded library
deleted, replaced       the folder is gone, or another run's has its name: neither may be written to
cluster_*               pipelined training on two loopback workers, one of which is killed, stopped
                        (SIGSTOP) or killed and started again at once; reported within 60 s

Prints one JSON object, a field a fault. Exit code 1 if any is not met as above. A fault that cannot
be made here (no namespaces, no C compiler) is listed as skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kill_search
import kill_train
from killing import ENVIRONMENT, ROOT

DETECTION = 60.0
"""Seconds within which a lost worker must be reported."""
ISOLATED = ["unshare", "-Urm", "--kill-child"]
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


@dataclasses.dataclass(frozen=True)
class Kind:
    """A command that is disturbed.

    Attributes:
        name: of the command.
        arguments: without the folder.
        result: reads a finished run's folder; compared with `==`.
        started: pattern of a file that shows that the run is under way.
    """

    name: str
    arguments: tuple[str, ...]
    result: Callable[[Path], Any]
    started: str = "checkpoints/*.npz"


def best(workdir: Path) -> tuple:
    """What a finished tuning found, but for times and versions."""
    trials = json.loads((workdir / "trials.json").read_text())["trials"]
    return [{**trial, "seconds": None} for trial in trials]


KINDS = {
    "search": Kind(
        "search",
        (
            *kill_search.ARGUMENTS,
            "--recipe.search.pretraining_steps=12",
            "--recipe.search.steps=8",
        ),
        kill_search.scores,
    ),
    "train": Kind(
        "train",
        (*kill_train.ARGUMENTS, "--blocks=2", "--recipe.train.epochs=2"),
        kill_train.state,
    ),
    "tune": Kind(
        "tune",
        (
            f"--recipe={ROOT / 'recipes/digits.py:smoke'}",
            "--recipe.data.limit=300",
            "--recipe.train.epochs=10",
            "--blocks=2",
            "--max_trials=1",
        ),
        best,
        started="tuner/tuner0.json",
    ),
}


RUNS: list[Run] = []
"""All that were started; `strike` ends those that are left."""


class Failure(Exception):
    """Something did not go as it should; the message says what."""


class Run:
    """A command that runs in the background, its output in a file beside its folder."""

    def __init__(self, kind: Kind, workdir: Path, *arguments: str, **environment: str) -> None:
        self.kind, self.workdir = kind, workdir
        RUNS.append(self)
        self.log = workdir.parent / f"{workdir.name}_{time.monotonic_ns()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"sedona_tf.{kind.name}", *kind.arguments]
                + [f"--workdir={workdir}", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**ENVIRONMENT, **environment},
                cwd=ROOT,
            )

    def stop_in_the_middle(self) -> None:
        """Stops the process once its first files are there."""
        end = time.monotonic() + 300
        while not any(not path.name.startswith(".") for path in self.files()):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise Failure(f"the run did not get going: {self.errors()[-300:]}")
            time.sleep(0.005)
        self.process.send_signal(signal.SIGSTOP)

    def files(self) -> list[Path]:
        return list(self.workdir.glob(self.kind.started))

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def errors(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self, code: int = 2, words: str = "") -> dict:
        """Waits for the end, which must be of this kind; returns what was seen."""
        try:
            seen = self.process.wait(300)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure("the run did not end within 300 s") from None
        lines = [line for line in self.errors().splitlines() if line.startswith("error: ")]
        if seen != code or "Traceback" in self.errors():
            raise Failure(f"exit code {seen}, not {code}: {self.errors()[-300:]}")
        if code == 2 and (len(lines) != 1 or words not in lines[0]):
            raise Failure(f"not one line with '{words}': {self.errors()[-300:]}")
        return {"exit_code": seen, "error": lines[0] if lines else None}


def finish(kind: Kind, workdir: Path, expected: Any, *arguments: str) -> dict:
    """Resumes a run; its result must be the undisturbed one's."""
    Run(kind, workdir, "--resume", *arguments).end(0)
    if kind.result(workdir) != expected:
        raise Failure("the resumed run ends with another result")
    left = [str(path) for path in workdir.rglob("*.partial")]
    if left:
        raise Failure(f"the resumed run leaves {left}")
    return {"resumed": "the undisturbed result, bit for bit"}


class Surroundings:
    """All faults, each a method that returns what was seen or raises `Failure`.

    Args:
        folder: for the runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def undisturbed(self, kind: Kind, name: str = "", *arguments: str) -> Any:
        """The result of a run that nothing happens to, made on first use."""
        workdir = self.folder / f"undisturbed_{name or kind.name}"
        if not (workdir / "finished").exists():
            shutil.rmtree(workdir, ignore_errors=True)
            Run(kind, workdir, *arguments).end(0)
            (workdir / "finished").touch()
        return kind.result(workdir)

    def full_disk(self, kind: Kind, home: Path) -> dict:
        """No space is left from the first checkpoint on; then there is some again."""
        workdir, ballast = home / "disk" / "run", home / "disk" / "ballast"
        workdir.parent.mkdir()
        with mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", at=workdir.parent):
            run = Run(kind, workdir)
            run.stop_in_the_middle()
            with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            free = shutil.disk_usage(workdir).free
            run.go_on()
            seen = run.end(words="No space left on device")
            if free:
                raise Failure(f"the disk was not full: {free} bytes")
            ballast.unlink()
            return seen | finish(kind, workdir, self.undisturbed(kind))

    def read_only(self, kind: Kind, home: Path) -> dict:
        """The folder is read-only from the start, and becomes so in mid-run."""
        workdir = home / "run"
        workdir.mkdir()
        with read_only(workdir):
            first = Run(kind, workdir).end(words="Read-only file system")
        run = Run(kind, workdir)
        run.stop_in_the_middle()
        with read_only(workdir):
            run.go_on()
            seen = run.end(words="Read-only file system")
        seen |= finish(kind, workdir, self.undisturbed(kind))
        return {**seen, "error_from_the_start": first["error"]}

    def two_runs(self, kind: Kind, home: Path) -> dict:
        """A second run comes while the first is there, and after the first was killed."""
        workdir = home / "run"
        first = Run(kind, workdir)
        first.stop_in_the_middle()
        seen = Run(kind, workdir, "--resume").end(words="in use by another run")
        first.process.kill()
        first.process.wait()
        return seen | finish(kind, workdir, self.undisturbed(kind))

    def clock(self, kind: Kind, home: Path) -> dict:
        """The wall clock is off by 0, a day and minus a day, in turn, throughout the run."""
        source, library, workdir = home / "clock.c", home / "clock.so", home / "run"
        source.write_text(CLOCK)
        compiler = shutil.which("cc")
        if compiler is None:
            return {"skipped": "no C compiler"}
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-DDAY={DAY}", "-o", library, source, "-ldl"],
            check=True,
        )
        seen = Run(kind, workdir, LD_PRELOAD=str(library)).end(0)
        if kind.result(workdir) != self.undisturbed(kind):
            raise Failure("the run ends with another result")
        jump = clock_range(workdir)
        if jump < DAY:
            raise Failure(f"the clock did not jump: TensorBoard's files span {jump:.0f} s")
        return {**seen, "result": "the undisturbed one, bit for bit", "jumps_s": round(jump)}

    def deleted(self, kind: Kind, home: Path) -> dict:
        """The folder is deleted in mid-run; it must stay so."""
        workdir = home / "run"
        run = Run(kind, workdir)
        run.stop_in_the_middle()
        shutil.rmtree(workdir)
        run.go_on()
        seen = run.end(words=str(workdir))
        if workdir.exists():
            raise Failure(f"made anew: {[str(path) for path in workdir.rglob('*')]}")
        return seen

    def replaced(self, kind: Kind, home: Path) -> dict:
        """The folder is deleted in mid-run and another run starts in it at once."""
        workdir, other = home / "run", home / "other"
        run = Run(kind, workdir)
        run.stop_in_the_middle()
        shutil.rmtree(workdir)
        second = Run(kind, workdir)
        second.stop_in_the_middle()
        shutil.copytree(workdir, other)
        run.go_on()
        seen = run.end(words="was deleted or replaced")
        if listing(workdir) != listing(other):
            raise Failure("it wrote into the other run's folder")
        second.go_on()
        second.end(0)
        if kind.result(workdir) != self.undisturbed(kind):
            raise Failure("the other run ends with another result")
        return {**seen, "other_run": "ends with the undisturbed result, bit for bit"}

    def cluster(self, blow: str, home: Path) -> dict:
        """One of two workers is lost in the middle of pipelined training."""
        kind, workdir = KINDS["train"], home / "run"
        with worker(home) as (_, healthy), contextlib.ExitStack() as stack:
            victim, lost = stack.enter_context(worker(home))
            cluster = f"--cluster={healthy},{lost}"
            expected = self.undisturbed(kind, "cluster", cluster)
            run = Run(kind, workdir, cluster)
            run.stop_in_the_middle()
            victim.send_signal(signal.SIGSTOP if blow == "stopped" else signal.SIGKILL)
            if blow == "restarted":
                victim.wait()
                stack.enter_context(worker(home, lost))
            run.go_on()
            struck = time.monotonic()
            seen = run.end(words=f"worker {lost} (task 1)")
            seconds = time.monotonic() - struck
            if seconds > DETECTION:
                raise Failure(f"reported after {seconds:.0f} s")
            if blow == "stopped":
                victim.send_signal(signal.SIGCONT)
            if blow == "killed":
                victim.wait()
                stack.enter_context(worker(home, lost))
            seen |= finish(kind, workdir, expected, cluster)
            return {**seen, "seconds_until_reported": round(seconds, 1)}


@contextlib.contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """Something mounted in this process' mount namespace."""
    subprocess.run(["mount", *arguments, at], check=True)
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


@contextlib.contextmanager
def worker(home: Path, address: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen, str]]:
    """A worker that is ready, and its address."""
    with open(home / "workers.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sedona_tf.worker", f"--port={address.rpartition(':')[2]}"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready on" not in line:
            raise Failure(f"a worker did not start: {(home / 'workers.log').read_text()[-300:]}")
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.wait()


def listing(folder: Path) -> dict[str, int]:
    """All files of a folder and when each was written last."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


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


def all_faults() -> dict[str, tuple[str, Any]]:
    """Name of each fault to the method of `Surroundings` and what it takes."""
    faults: dict[str, tuple[str, Any]] = {}
    for method, names in {
        "full_disk": ("search", "train"),
        "read_only": ("search", "train"),
        "two_runs": ("search", "train", "tune"),
        "clock": ("search", "train"),
        "deleted": ("search", "train", "tune"),
        "replaced": ("search", "train"),
    }.items():
        faults |= {f"{method}_{name}": (method, KINDS[name]) for name in names}
    return faults | {
        f"cluster_{blow}": ("cluster", blow) for blow in ("killed", "stopped", "restarted")
    }


def strike(name: str, folder: Path) -> dict:
    """Does one fault to a run, in this process' namespaces."""
    method, given = all_faults()[name]
    home = folder / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    surroundings = Surroundings(folder)
    doc = getattr(Surroundings, method).__doc__
    start = time.monotonic()
    try:
        seen = {"done": doc, **getattr(surroundings, method)(given, home)}
    except Failure as failure:
        seen = {"done": doc, "failed": str(failure)}
    finally:
        for run in RUNS:
            run.process.kill()
            run.process.wait()
    return {**seen, "seconds": round(time.monotonic() - start, 1)}


def isolated(name: str, folder: Path) -> dict:
    """Does one fault in mount and user namespaces of its own."""
    if not shutil.which(ISOLATED[0]) or subprocess.run([*ISOLATED, "true"]).returncode:
        return {"skipped": "no mount namespaces here"}
    command = [*ISOLATED, sys.executable, __file__, f"--inside={name}", f"--keep={folder}"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def main() -> int:
    """Does all faults, prints what was seen."""
    faults = all_faults()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(faults), help="names, separated by commas")
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one if none")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(faults):
        parser.error(f"no such faults: {', '.join(sorted(unknown))}. There are {', '.join(faults)}")
    if arguments.inside:
        print(json.dumps(strike(arguments.inside, arguments.keep)))
        return 0
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            mounts = faults[name][0] in ("full_disk", "read_only")
            results[name] = (isolated if mounts else strike)(name, folder)
            print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))
    return 1 if any("failed" in result for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
