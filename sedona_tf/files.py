"""Files that are whole or not there, whatever happens meanwhile; folders that one run uses."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from sedona_tf.errors import UserError

__all__ = ["Lock", "atomic_folder", "atomic_write", "locked", "make_folder", "remove_partial"]

PARTIAL = ".partial"
"""How the name of a file that is still being written ends."""
LOCK = ".lock"
"""Name of a folder's lock file."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Opens a temporary file beside `path` that takes its name once it is written and synced.

    Args:
        path: the file to write; an existing one stays as it is until the new one is complete.

    Yields:
        A binary file, to write and to read back.

    Raises:
        UserError: if the operating system refuses (full disk, read-only folder).
    """
    path = Path(path)
    with _whole(path, _temporary_file, lambda file: file.unlink(missing_ok=True)) as temporary:
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)


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
    with _whole(path, tempfile.mkdtemp, remove) as temporary:
        os.chmod(temporary, 0o755)
        yield temporary
        for written in [*temporary.rglob("*"), temporary]:
            _sync(written)


@contextlib.contextmanager
def _whole(path: Path, make: Callable[..., str], remove: Callable[[Path], None]) -> Iterator[Path]:
    """Makes something temporary beside `path` that takes its name after the `with` block.

    Args:
        path: the name to take.
        make: as `tempfile.mkdtemp`.
        remove: deletes what was made, if it did not come to take the name.

    Raises:
        UserError: if the operating system refuses, the block's doings included.
    """
    temporary = None
    try:
        temporary = Path(make(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
        yield temporary
        os.replace(temporary, path)
        temporary = None
        _sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            remove(temporary)


def _temporary_file(**options) -> str:
    handle, name = tempfile.mkstemp(**options)
    os.close(handle)
    return name


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on disk."""
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
        for path in folder.glob(f".*{PARTIAL}"):
            if path.is_dir():
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
            now = os.stat(self.folder / LOCK)
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
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "ab")  # noqa: SIM115 (closed below)
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
