"""Counts a process's operations on the files of a folder, and kills it inside one of them.

Usage: python tests/robustness/tripwire.py FOLDER OPERATION NUMBER MODULE [ARGUMENT ...]

Runs the module as `python -m` would. At the NUMBER-th OPERATION, such as
`"rename checkpoints/search-N.npz"`, the process gets SIGKILL: before the operation, and in the
middle of the bytes if it is a write. If that never comes (NUMBER 0), how often each operation came
is left beside the folder, see `counts_of`.

The operations are those of Python: files made or opened for writing, writes to the operating
system, syncs (of folders too), renames, deletions, new folders. What C++ writes, such as
TensorBoard's files, is not seen. The command knows nothing of it: an audit hook tells of most
operations, `open` and `os.fsync` are replaced for the others.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import re
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PATH_OF = {"os.chmod": 0, "os.mkdir": 0, "os.remove": 0, "os.rename": 1}
"""Audited event to which of its arguments is the path that it changes."""


class Tripwire:
    """Counts operations on files from now on, in this process and its forks.

    Args:
        folder: only files in it count.
        operation: words of the operations of which one is deadly, see `counts`; empty for all.
        number: which of them is deadly, from 1; 0 for none.

    Attributes:
        counts: words of an operation to how often it came. Numbers in a file's name are put as N,
            and a temporary file goes by the name that it is to take.
    """

    def __init__(self, folder: Path, operation: str = "", number: int = 0) -> None:
        self.folder = os.path.abspath(folder)
        self.operation, self.left = operation, number
        self.counts: Counter[str] = Counter()
        sys.addaudithook(self._audit)
        sync, plain = os.fsync, builtins.open

        def fsync(handle: int) -> None:
            self.touch("sync", os.readlink(f"/proc/self/fd/{handle}"))
            sync(handle)

        def opened(path: Any, mode: str = "r", *others, **options) -> Any:
            if not re.fullmatch(r"[wax]b\+?|[wax]\+b", mode) or self._words(path) is None:
                return plain(path, mode, *others, **options)
            raw = _File(path, mode, self)
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        os.fsync, builtins.open = fsync, opened

    def touch(self, name: str, path: Any) -> None:
        """Counts an operation that is about to happen; does not return if it is deadly."""
        if self.due(name, path):
            die()

    def due(self, name: str, path: Any) -> bool:
        """Counts an operation; whether it is the deadly one."""
        file = self._words(path)
        if file is None:
            return False
        operation = f"{name} {file}"
        self.counts[operation] += 1
        if self.operation not in ("", operation):
            return False
        self.left -= 1
        return self.left == 0

    def _audit(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.touch("open", path)
        elif event in PATH_OF:
            self.touch(event.removeprefix("os."), arguments[PATH_OF[event]])

    def _words(self, path: Any) -> str | None:
        """The kind of a file in the folder; None for any other file."""
        if not isinstance(path, str | os.PathLike):
            return None
        path = os.path.abspath(path)
        if path != self.folder and not path.startswith(self.folder + os.sep):
            return None
        above, name = os.path.split(os.path.relpath(path, self.folder))
        name = re.sub(r"^\.(.+)\.\w+\.partial$", r"\1", name)
        return os.path.join(above, re.sub(r"\d+", "N", name))


class _File(io.FileIO):
    def __init__(self, path: Any, mode: str, wire: Tripwire) -> None:
        super().__init__(path, mode)
        self.wire = wire

    def write(self, data: Any) -> int:
        if self.wire.due("write", self.name):
            super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            die()
        return super().write(data)


def die() -> None:
    """Ends this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def counts_of(folder: Path) -> Path:
    """The file beside a folder where a process that was not killed leaves its counts."""
    return folder.with_suffix(".operations.json")


def main() -> None:
    """Runs the module."""
    folder, operation, number, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    sys.path[0] = os.getcwd()
    wire = Tripwire(Path(folder), operation, int(number))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        counts_of(Path(folder)).write_text(json.dumps(wire.counts, indent=1))


if __name__ == "__main__":
    main()
