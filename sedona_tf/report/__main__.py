"""Makes one HTML page of a search, of a training or of both.

Usage:
  python -m sedona_tf.report --workdir DIR [--training DIR,...] [--output FILE.html]

Examples:
  python -m sedona_tf.report --workdir runs/digits
  python -m sedona_tf.report --workdir runs/digits --training runs/digits_sedona_k2,runs/k4
  python -m sedona_tf.report --workdir runs/digits_sedona_k2 --output digits.html

The page needs nothing else: no scripts, no fonts, no network. See docs/report.md.
Exit code: 0, or 2 with one line on stderr if something given is wrong.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.path_flag import define_path, define_paths
from sedona_tf.files import atomic_write

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_path("workdir", None, "folder of a finished search or training.", required=True)
    define_paths(
        "training",
        "folders of finished trainings to add, separated by commas; a folder whose name has a "
        "comma goes in double quotes.",
    )
    define_path("output", None, "the page's file; report.html in --workdir if not given.")


def main() -> None:
    """Runs the command."""
    from sedona_tf.report.page import render_page
    from sedona_tf.report.read_run import read_folder, read_training

    workdir = Path(flags.FLAGS.workdir)
    search, training = read_folder(workdir)
    trainings = [training] if training else []
    trainings += [read_training(Path(folder)) for folder in flags.FLAGS.training]
    page = render_page(search, trainings)
    output = Path(flags.FLAGS.output or workdir / "report.html")
    with atomic_write(output) as file:
        file.write(page.encode())
    print(f"wrote {output}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
