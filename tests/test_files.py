"""Whole files and locked folders."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sedona_tf.errors import UserError
from sedona_tf.files import atomic_folder, atomic_write, locked, remove_partial

HOLD = (
    "import sys; from sedona_tf.files import locked\n"
    "with locked(sys.argv[1]): print('locked', flush=True); sys.stdin.read()\n"
)


def test_write_takes_the_name_only_when_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_folder_takes_the_name_only_when_complete(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("half")
        assert folder.name.startswith(".") and not path.exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(path) as folder:
        (folder / "file").write_text("new")
    assert (path / "file").read_text() == "new" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot write"), atomic_folder(path):
        pass  # the name is taken by a folder that is not empty
    assert (path / "file").read_text() == "new" and list(tmp_path.iterdir()) == [path]
    (tmp_path / ".4.xyz.partial" / "inner").mkdir(parents=True)
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_removes_what_a_killed_writer_left(tmp_path):
    code = (
        "import os, sys; from sedona_tf.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: file.write(b'half'); os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name != "file"
    (tmp_path / ".other").write_text("")
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".other"]


def test_lock_keeps_others_out_until_its_process_is_killed(tmp_path):
    folder = tmp_path / "new" / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="in use by another run"), locked(folder):
            pass
        holder.kill()
        holder.wait()
        with locked(folder), locked(tmp_path):
            pass
        with locked(folder):
            pass


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_lock_needs_a_folder(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot use {tmp_path / name}: "), locked(tmp_path / name):
        pass
