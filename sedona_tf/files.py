"""Files that are whole or not there, whatever happens meanwhile; folders that one run uses."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from sedona_tf.errors import UserError

__all__ = ["Lock", "atomic_folder", "atomic_write", "locked", "make_folder", "remove_partial"]

PARTIAL_SUFFIX = ".partial"
"""How the name of a file that is still being written ends."""
LOCK_FILE = ".lock"
"""Name of a folder's lock file."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Opens a temporary file that takes the place of `path` once it is written and synced.

    A link is followed: the temporary file lies beside its target, and the link stays. A new file's
    mode follows the umask, and an old one's stays. A device, a pipe or the
    program's own output is never replaced; the content is written to it when the block ends.

    Args:
        path: the file to write; an existing one stays as it is until the new one is complete.

    Yields:
        A binary file, to write and to read back.

    Raises:
        UserError: if the operating system refuses (full disk, read-only folder).
    """
    with _refusal_as_error(path):
        target = _regular_file(path)
        if target is None:
            buffer = io.BytesIO()
            yield buffer
            with _open_in_place(path) as file:
                file.write(buffer.getbuffer())
            return
        with _renamed_when_whole(target, lambda left: left.unlink(missing_ok=True)) as temporary:
            with open(temporary, "x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Makes a temporary folder beside `path` that takes its name once it is written and synced.

    Args:
        path: the folder to write; must not exist, which the caller sees to by a lock.

    Yields:
        The temporary folder; its name begins with a dot.

    Raises:
        UserError: if the operating system refuses.
    """
    remove = functools.partial(shutil.rmtree, ignore_errors=True)
    with _refusal_as_error(path), _renamed_when_whole(path, remove) as temporary:
        temporary.mkdir()
        yield temporary
        for written in [*temporary.rglob("*"), temporary]:
            _sync(written)


@contextlib.contextmanager
def _refusal_as_error(path: str | os.PathLike) -> Iterator[None]:
    """Raises the operating system's refusals as `UserError`, those inside the block included."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def _renamed_when_whole(path: Path, remove: Callable[[Path], None]) -> Iterator[Path]:
    """A name beside `path`; its file or folder is renamed to `path` after the `with` block.

    Args:
        path: the name to take.
        remove: deletes what was made, if it did not come to take the name.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    _sync(path.parent)


def _regular_file(path: str | os.PathLike) -> Path | None:
    """The regular file that a path leads to, or would make; None if it leads to anything else."""
    target = Path(os.path.realpath(path))
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return target
    # A link such as /dev/fd/3 can lead to a file that its target does not name.
    named = target.exists() and os.path.samestat(found, target.stat())
    return target if named and stat.S_ISREG(found.st_mode) and _own_output(found) is None else None


def _open_in_place(path: str | os.PathLike) -> IO[bytes]:
    handle = _own_output(os.stat(path))
    # A file opened anew would begin at its start, over what was printed.
    return open(path, "wb") if handle is None else os.fdopen(os.dup(handle), "wb")


def _own_output(found: os.stat_result) -> int | None:
    """The handle of the standard output or error, if that is the file found."""
    for handle in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if os.path.samestat(found, os.fstat(handle)):
                return handle
    return None


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on disk; Windows cannot."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, if need be.

    Raises:
        UserError: if the operating system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}.") from error


def remove_partial(folder: Path) -> None:
    """Deletes what a process killed inside `atomic_write` or `atomic_folder` left.

    Only for a folder that one has locked.

    Raises:
        UserError: if the operating system refuses.
    """
    try:
        for path in folder.glob(f".*{PARTIAL_SUFFIX}"):
            if not re.fullmatch(rf"\..+\.[0-9a-f]{{8}}{re.escape(PARTIAL_SUFFIX)}", path.name):
                continue  # another program's
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise UserError(f"cannot clean {folder}: {error.strerror or error}.") from error


class Lock:
    """What `locked` holds on a folder.

    Args:
        folder: the folder.
        file: its lock file, open and locked.
    """

    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        self.folder = folder
        self._file = file

    def require(self) -> None:
        """Makes sure that the folder is the one that was locked.

        One that was deleted may have been made anew and locked by another run since.

        Raises:
            UserError: if it is not.
        """
        try:
            now = os.stat(self.folder / LOCK_FILE)
        except (FileNotFoundError, NotADirectoryError):
            now = None
        except OSError as error:
            raise UserError(f"cannot use {self.folder}: {error.strerror or error}.") from error
        if now is None or not os.path.samestat(os.fstat(self._file.fileno()), now):
            raise UserError(f"{self.folder} was deleted or replaced while this run was using it.")


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[Lock]:
    """Keeps a folder, made if need be, to one process.

    The lock is on the open file `.lock` in the folder. The kernel releases it when the process
    ends, however it ends, so a file left by a crash locks nothing.

    Args:
        folder: the folder.

    Yields:
        The `Lock`.

    Raises:
        UserError: if another process has locked it, or it cannot be made or locked.
    """
    try:
        import fcntl  # not at module level: plans are read where there is none
    except ImportError:
        raise UserError("this system cannot lock folders; runs need Linux or macOS.") from None
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK_FILE, "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"cannot use {folder}: {error.strerror or error}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder} is in use by another run; wait, or take another.") from None
        except OSError as error:
            raise UserError(f"cannot lock {folder}: {error.strerror or error}.") from error
        yield Lock(folder, file)
