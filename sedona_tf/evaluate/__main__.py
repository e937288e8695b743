"""Evaluates a trained run: the error of every block's classifier, of the head and of ensembles.

Examples:
  python -m sedona_tf.evaluate --workdir runs/digits_sedona_k2
  python -m sedona_tf.evaluate --workdir runs/digits_sedona_k2 --split validation --json

Writes evaluation.json into the folder. The images must be those of the training. The
temperatures of a finished training are used. For a stopped one they are fitted now, on the
validation part.
Exit code: 0, or 2 with one line on stderr if something given is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.path_flag import define_path

__all__ = ["command", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_path("workdir", None, "folder of a finished training run.", required=True)
    flags.DEFINE_enum("split", "test", ["test", "validation"], "images to count errors on.")
    flags.DEFINE_boolean("json", False, "print JSON, as it is written, instead of tables.")


def main() -> None:
    """Runs the command."""
    from sedona_tf.runs.kept_recipe import read_recipe

    workdir, split = Path(flags.FLAGS.workdir), flags.FLAGS.split
    read_recipe(workdir, "train")
    with command_line.progress(to=sys.stderr):  # the output is the result alone
        command_line.start_tensorflow()
        from sedona_tf.evaluate.table import evaluation_table
        from sedona_tf.train.trained_run import load_run

        run = load_run(workdir)
        images = run.data.test() if split == "test" else run.data.validation()
        evaluation = run.ensemble().evaluate(images)
    trained = (run.step, run.steps)
    if flags.FLAGS.json:
        print(json.dumps(evaluation.described(split, trained), indent=1), flush=True)
    else:
        print(evaluation_table(evaluation, split, trained), flush=True)
        if split == "validation" and evaluation.ensembles:
            print("The temperatures were fitted on these images.", flush=True)
    evaluation.save(workdir / "evaluation.json", split, trained)
    if not flags.FLAGS.json:
        print(f"wrote {workdir / 'evaluation.json'}")


def command() -> None:
    """The command `python -m sedona_tf.evaluate`."""
    define_flags()
    command_line.run(main, __doc__)


if __name__ == "__main__":
    command()
