"""The envelope: what the checksum covers, how long a file may be, and what it says it is."""

from __future__ import annotations

import hashlib
import json

import pytest

from sedona_tf.document import MAX_BYTES, kind_of, pack, read_json, unpack
from sedona_tf.errors import UserError

CONTENT = {"b": 0.1, "a": [1, None]}


def refusal(path, **given) -> str:
    with pytest.raises(UserError) as caught:
        unpack(path, {"a", "b"}, "plan", **given)
    return str(caught.value)


def test_the_bytes_of_a_file():
    """SHA-256 of the content with sorted keys and no white space."""
    canonical = b'{"a":[1,null],"b":0.1,"format":"sedona_tf.plan","version":1}'
    assert pack(CONTENT, "plan", indent=None) == (
        b'{"format": "sedona_tf.plan", "version": 1, "b": 0.1, "a": [1, null], "checksum": "'
        + hashlib.sha256(canonical).hexdigest().encode()
        + b'"}\n'
    )
    assert pack(CONTENT, "plan").startswith(b'{\n "format"')  # one space a level
    assert MAX_BYTES == 16_777_216
    with pytest.raises(ValueError):
        pack({"a": float("nan")}, "plan")


def test_order_and_white_space_do_not_count(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(json.loads(pack(CONTENT, "plan")), sort_keys=True, indent=7))
    assert unpack(path, {"a", "b"}, "plan") == CONTENT


def test_the_longest_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(pack(CONTENT, "plan"))
    size = path.stat().st_size
    assert unpack(path, {"a", "b"}, "plan", most=size) == CONTENT
    assert "it is over 0 MiB" in refusal(path, most=size - 1)
    path.write_bytes(b" " * 3 * 2**20)
    assert "it is over 2 MiB" in refusal(path, most=2 * 2**20)


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (0, "0"),
        (2, "2"),
        (-999_999, "-999999"),
        (10**6, "something else"),
        (-(10**6), "something else"),
        (1.0, "something else"),
        ("1", "something else"),
    ],
)
def test_other_versions_are_named_where_they_are_short(version, shown, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"format": "sedona_tf.plan", "version": version}))
    assert f"has version {shown}; this program reads 1." in refusal(path)


def test_the_first_wrong_field_is_named(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(pack({"z": 1, "y": 2, **CONTENT}, "plan"))
    assert "has the unknown field 'y'." in refusal(path)
    path.write_bytes(pack({}, "plan"))
    assert "lacks field 'a'." in refusal(path)


def test_a_file_says_what_it_is(tmp_path):
    path = tmp_path / "file.json"
    for content, kind in (
        (pack({}, "decoupling"), "decoupling"),
        (pack({}, "plan"), "plan"),
        (pack({}, "costs"), "plan"),  # to be refused as a plan
        (b"[]", "plan"),
    ):
        path.write_bytes(content)
        assert kind_of(path) == kind


def test_json_is_read_strictly(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": "\u00e9"}', encoding="utf-8")
    assert read_json(path, "thing") == {"a": "\u00e9"}
    path.write_text('{"a": "\u00e9"}', encoding="utf-8-sig")  # as editors on Windows do
    assert read_json(path, "thing") == {"a": "\u00e9"}
    for content, words in (
        ('"a"'.encode("utf-16"), "not readable JSON"),
        (b"[Infinity]", "it holds the non-finite number Infinity"),
        (b"[1e999]", "not readable JSON"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            read_json(path, "thing")
        assert str(caught.value).startswith(f"thing '{path}' ") and "\n" not in str(caught.value)
