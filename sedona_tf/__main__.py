"""Lists the commands of the package, and runs them: `sedona search --help`."""

from __future__ import annotations

import importlib
import runpy
import sys

import sedona_tf
from sedona_tf.command_line import print_and_exit
from sedona_tf.errors import unknown_name

COMMANDS = (
    *("search", "decode", "train", "evaluate", "report", "tune", "profile", "export", "worker"),
)


def usage() -> str:
    """The purpose of each command, in one line."""
    lines = ["Usage: sedona COMMAND FLAGS, or python -m sedona_tf.COMMAND FLAGS", ""]
    for name in COMMANDS:
        words = importlib.import_module(f"sedona_tf.{name}").__doc__ or ""  # None with -OO
        lines.append(f"  {name:9} {words.partition(chr(10))[0]}".rstrip())
    return "\n".join([*lines, "", "--help after a command shows its flags."])


def main() -> int:
    """Runs the command that the first argument names."""
    first = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if first in COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"sedona_tf.{first}", run_name="__main__", alter_sys=True)
    elif first in ("--version", "-version"):
        print_and_exit(f"sedona_tf {sedona_tf.__version__}")
    elif first in ("--help", "-help", "-h"):
        print_and_exit(usage())
    else:
        print(f"error: {unknown_name('command', first, COMMANDS)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
