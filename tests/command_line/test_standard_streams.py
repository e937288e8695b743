"""Standard streams that are closed, or cannot write all characters; what TensorFlow says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import os, sys
from absl import flags
from sedona_tf import command_line
from sedona_tf.errors import UserError
from sedona_tf.runs.progress import progress_bar
def main():
    with command_line.progress():
        print("progress")
        progress_bar("work", 1, "step").close()
    print("r\\u00e9sultat \\udcff")
    with open("file", "w") as file: os.write(2, b"a library's line\\n")
    if flags.FLAGS.quiet: raise UserError("wrong")
command_line.run(main, "A probe.")
"""


def probe(folder, redirection: str = "", *, flags: str = "", **environment: str):
    (folder / "probe.py").write_text(PROBE)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} probe.py {flags} {redirection}"],
        cwd=folder,
        capture_output=True,
        env={**os.environ, **environment},
    )
    assert (folder / "file").read_bytes() == b""
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    """Python then has no stream, and the next file gets the stream's number."""
    code, output, errors = probe(tmp_path, closed)
    assert code == 0
    assert errors == (b"" if "2>" in closed else b"a library's line\n")
    assert output == b"" if closed != "2>&-" else b"sultat" in output
    code, output, errors = probe(tmp_path, closed, flags="--quiet")
    assert code == 2 and b"wrong" not in output


def test_quiet_leaves_the_result_and_errors(tmp_path):
    code, output, errors = probe(tmp_path, flags="--quiet", PYTHONUTF8="1")
    assert (code, output) == (2, "résultat \udcff\n".encode(errors="surrogateescape"))
    assert errors == b"a library's line\nerror: wrong\n"


@pytest.mark.parametrize(
    ("encoding", "result"),
    [
        ("ascii", b"r\\xe9sultat \xff"),
        ("latin-1", b"r\xe9sultat \xff"),
        ("utf-8", b"r\xc3\xa9sultat \xff"),
    ],
)
def test_encodings(tmp_path, encoding, result):
    code, output, _ = probe(tmp_path, PYTHONIOENCODING=encoding)
    assert code == 0 and output.splitlines()[-1] == result


def test_notices_are_held_and_the_rest_appears(tmp_path):
    code = (
        "import os\n"
        "from sedona_tf.command_line.standard_streams import drop_native_log_lines\n"
        "with drop_native_log_lines():\n"
        "    os.write(2, b'I0000 00:00:1.1 1 a.cc:1] notice\\nreal\\n')\n"
        "os.write(2, b'after\\n')\n"
        "with drop_native_log_lines():\n"
        "    os.write(2, b'W0000 00:00:1.1 1 a.cc:1] notice\\n')\n"
        "    raise ImportError('no library')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.startswith("real\nafter\n")
    assert done.stderr.endswith("ImportError: no library\n") and "notice" not in done.stderr
