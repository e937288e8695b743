"""IDX files: round trip, and damage refused in one line that names the file."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess

import numpy as np
import pytest

from sedona_tf import recipe
from sedona_tf.data import load, load_section
from sedona_tf.data.idx import read_idx
from sedona_tf.errors import UserError


def encode(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_folder(folder, compress):
    random = np.random.default_rng(0)
    arrays = {}
    for prefix, count in (("train", 12), ("t10k", 5)):
        images = random.integers(0, 256, (count, 4, 6), dtype=np.uint8)
        labels = (np.arange(count) % (4 if prefix == "train" else 2)).astype(np.uint8)
        for part, array in ((f"{prefix}-images-idx3", images), (f"{prefix}-labels-idx1", labels)):
            content = encode(array)
            if compress:
                (folder / f"{part}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{part}-ubyte").write_bytes(content)
            arrays[part] = array
    return arrays


@pytest.mark.parametrize("compress", [False, True])
def test_round_trip(tmp_path, compress):
    arrays = write_folder(tmp_path, compress)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        source = load("idx", split, data_dir=str(tmp_path))
        np.testing.assert_array_equal(source.images[..., 0], arrays[f"{prefix}-images-idx3"])
        np.testing.assert_array_equal(source.labels, arrays[f"{prefix}-labels-idx1"])
        assert source.labels.dtype == np.int32
        assert source.num_classes == 4  # The test part alone would say 2.


def test_the_home_folder_and_a_byte_order_mark_in_the_list_of_sums(tmp_path, monkeypatch):
    arrays = write_folder(tmp_path, False)
    names = [path.name for path in tmp_path.iterdir()]
    sums = [f"{hashlib.sha256((tmp_path / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (tmp_path / "SHA256SUMS").write_text("".join(sums), encoding="utf-8-sig")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    settings = recipe.paper().data
    settings.source, settings.data_dir = "idx", f"~/{tmp_path.name}"
    images = load_section(settings, "train").images[..., 0]
    np.testing.assert_array_equal(images, arrays["train-images-idx3"])


def test_labels_that_do_not_begin_at_nought(tmp_path):
    """EMNIST's letters are 1 to 26, and were 27 classes."""
    arrays = write_folder(tmp_path, False)
    for part, array in arrays.items():
        if "labels" in part:
            (tmp_path / f"{part}-ubyte").write_bytes(encode(array + 1))
    for split in ("train", "test"):
        with pytest.raises(UserError, match="first_label=1"):
            load("idx", split, data_dir=str(tmp_path))
    for split, prefix in (("train", "train"), ("test", "t10k")):
        source = load("idx", split, data_dir=str(tmp_path), first_label=1)
        np.testing.assert_array_equal(source.labels, arrays[f"{prefix}-labels-idx1"])
        assert source.num_classes == 4
    with pytest.raises(UserError, match="leave out 2"):
        load("idx", "train", data_dir=str(tmp_path), first_label=2)
    gap = arrays["train-labels-idx1"] * 2 + 1
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encode(gap))
    with pytest.raises(UserError, match="leave out 2"):
        load("idx", "train", data_dir=str(tmp_path), first_label=1)


VALUES = encode(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
ZIPPED = gzip.compress(VALUES, mtime=0)
DAMAGED = {
    "truncated": ("a", VALUES[:-1], "holds 59 values"),
    "too long": ("a", VALUES + b"x", "holds 61 values"),
    "header": ("a", VALUES[:9], "truncated header"),
    "rank": ("a", encode(np.zeros((1,) * 32, np.uint8))[:3] + b"\x41" + VALUES * 9, "rank 65"),
    "empty": ("a", b"", "not an IDX file"),
    "magic": ("a", b"\x89PNG" + VALUES, "not an IDX file"),
    "type": ("a", encode(np.zeros(3, np.float32), kind=13), "0x0d"),
    "not gzip": ("a.gz", VALUES, "cannot read"),
    "gzip cut": ("a.gz", ZIPPED[:-12], "cannot read"),
    "deflate": ("a.gz", ZIPPED[:12] + b"\xff" * 20 + ZIPPED[32:], "cannot read"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_refused(tmp_path, case):
    name, content, words = DAMAGED[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_idx(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", [False, True])
def test_a_list_of_checksums_guards_every_file(compress, tmp_path):
    write_folder(tmp_path, compress)
    names = sorted(path.name for path in tmp_path.iterdir())
    sums = tmp_path / "SHA256SUMS"
    lines = [f"{hashlib.sha256((tmp_path / n).read_bytes()).hexdigest()} *{n}\n" for n in names]
    sums.write_text("".join(lines))
    before = load("idx", "test", data_dir=str(tmp_path))
    for number, name in enumerate(names):
        path = tmp_path / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        split = "test" if name.startswith("t10k") else "train"
        with pytest.raises(UserError, match=name) as error:
            load("idx", split, data_dir=str(tmp_path))
        assert "\n" not in str(error.value)
        path.write_bytes(content)
        sums.write_text("".join(lines[:number] + lines[number + 1 :]))
        with pytest.raises(UserError, match=name):
            load("idx", split, data_dir=str(tmp_path))
        sums.write_text("".join(lines))
    np.testing.assert_array_equal(load("idx", "test", data_dir=str(tmp_path)).images, before.images)
    sums.unlink()
    sums.mkdir()
    with pytest.raises(UserError, match="SHA256SUMS"):
        load("idx", "train", data_dir=str(tmp_path))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_a_list_as_the_tool_writes_it(tmp_path):
    write_folder(tmp_path, False)
    subprocess.run("sha256sum ./*-ubyte > SHA256SUMS", shell=True, cwd=tmp_path, check=True)
    assert load("idx", "train", data_dir=str(tmp_path)).num_classes == 4


def test_missing_folder_and_file(tmp_path):
    for data_dir in ("", str(tmp_path / "none")):
        with pytest.raises(UserError, match="data_dir"):
            load("idx", "train", data_dir=data_dir)
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz"):
        load("idx", "train", data_dir=str(tmp_path))


def test_parts_that_do_not_fit(tmp_path):
    write_folder(tmp_path, False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(encode(np.zeros(11, np.uint8)))
    with pytest.raises(UserError, match="11"):
        load("idx", "train", data_dir=str(tmp_path))
    labels.write_bytes(encode(np.zeros((12, 1), np.uint8)))
    with pytest.raises(UserError, match="rank 2"):
        load("idx", "train", data_dir=str(tmp_path))
