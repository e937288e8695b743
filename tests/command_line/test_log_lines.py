"""What commands show of the log."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import logging
from absl import logging as absl_logging
from sedona_tf import command_line, errors

def main():
    with command_line.progress():
        absl_logging.info("of another package")
        logging.getLogger("other").warning("heed this")
        with errors.dispensable("a picture"):
            raise RuntimeError("no fonts")
        record = logging.LogRecord("absl", 20, errors.__file__, 1, "loading data", (), None)
        absl_logging.get_absl_logger().handle(record)
    print("the result")

command_line.run(main, "A probe.")
"""


@pytest.mark.parametrize("quiet", [False, True])
def test_plain_lines_of_this_package_and_warnings_of_others(quiet):
    done = subprocess.run(
        [sys.executable, "-c", CODE, *(["--quiet"] if quiet else [])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if quiet else "loading data\n") + "the result\n"
    foreign, ours = done.stderr.splitlines()
    assert foreign.startswith("W") and foreign.endswith("heed this")
    assert ours == "warning: a picture could not be made: no fonts"
