"""Whole files and locked folders."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading

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
    (tmp_path / ".4.0123abcd.partial" / "inner").mkdir(parents=True)
    for name in (".notes.partial", ".download.0123abcd5.partial"):  # other programs'
        (tmp_path / name).write_text("")
    remove_partial(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {
        "folder",
        ".notes.partial",
        ".download.0123abcd5.partial",
    }


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    link.symlink_to("far/target")
    for content in (b"made", b"replaced"):
        with atomic_write(link) as file:
            file.write(content)
            assert not target.exists() or target.read_bytes() == b"made"
        assert link.is_symlink() and target.read_bytes() == content
        assert list(target.parent.iterdir()) == [target]
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UserError, match="cannot write"), atomic_write(tmp_path / "round"):
        pass


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o002, 0o775)])
def test_modes_follow_the_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file"):
            pass
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "inner").write_text("")
        with locked(tmp_path / "run"):
            pass
    finally:
        os.umask(before)
    assert {
        name: stat.S_IMODE((tmp_path / name).stat().st_mode)
        for name in ("file", "folder", "folder/inner", "run", "run/.lock")
    } == {
        "file": mode & 0o666,
        "folder": mode,
        "folder/inner": mode & 0o666,
        "run": mode,
        "run/.lock": mode & 0o666,
    }
    (tmp_path / "file").chmod(0o604)
    with atomic_write(tmp_path / "file"):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o604


def test_a_pipe_is_written_to_and_stays(tmp_path):
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    with atomic_write(path) as file:
        file.write(b"all of it")
        file.seek(0)
        assert file.read() == b"all of it"
    reader.join()
    assert got == [b"all of it"] and stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError  # before anything is written, or this would wait for a reader
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_and_stays(tmp_path):
    """On a node of our own: one like /dev/null, and one like /dev/full."""
    for name, minor in (("null", 3), ("full", 7)):
        try:
            os.mknod(tmp_path / name, stat.S_IFCHR | 0o600, os.makedev(1, minor))
            open(tmp_path / name, "wb").close()
        except PermissionError:
            pytest.skip("making devices needs root")
    with atomic_write(tmp_path / "null") as file:
        file.write(b"gone")
    with pytest.raises(UserError, match="No space left"), atomic_write(tmp_path / "full") as file:
        file.write(b"refused")
    for name in ("null", "full"):
        assert stat.S_ISCHR((tmp_path / name).stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_own_output_is_written_to_where_it_stands(tmp_path):
    code = (
        "from sedona_tf.files import atomic_write\nprint('before', flush=True)\n"
        "with atomic_write('/dev/stdout') as file: file.write(b'inside\\n')\nprint('after')"
    )
    with open(tmp_path / "output", "w+") as output:
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True)
    assert (tmp_path / "output").read_text() == "before\ninside\nafter\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "before\ninside\nafter\n"


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
