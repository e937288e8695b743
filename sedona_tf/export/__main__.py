"""Exports a trained run as a SavedModel for TensorFlow Serving.

Examples:
  python -m sedona_tf.export --workdir runs/digits_sedona_k2 --output models/digits
  python -m sedona_tf.export --workdir runs/digits_sedona_k2 --output models/digits --version 7

Writes models/digits/VERSION, with warm-up requests, and the model's entry in models/models.config.
Signatures: serving_default (uint8 images as stored in the data set), serving_float (float32 from 0
to 255), exit_1 to exit_K (every block's own classifier) and, for K > 1, ensemble (all of them,
calibrated). See docs/serving.md. Needs `pip install 'sedona_tf[serving]'`.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.path_flag import define_path

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_path("workdir", None, "folder of a finished training run.", required=True)
    define_path("output", None, "folder of the model, models/NAME.", required=True)
    flags.DEFINE_integer(
        "version",
        None,
        "number of the version, which must be new; by default one more than the newest, from 1.",
        lower_bound=1,
        upper_bound=2**63 - 1,
    )
    flags.DEFINE_string(
        "served_from",
        "/models",
        "where the server will see the folder that --output is in; /models in TensorFlow Serving's "
        "Docker image.",
    )


def main() -> None:
    """Runs the command."""
    from sedona_tf.runs.kept_recipe import read_recipe

    workdir, output = Path(flags.FLAGS.workdir), Path(flags.FLAGS.output)
    read_recipe(workdir, "train")
    with command_line.progress():
        command_line.start_tensorflow()
        from sedona_tf.export.publish import publish

        version, signatures = publish(
            workdir, output, version=flags.FLAGS.version, served_from=flags.FLAGS.served_from
        )
    print(f"signatures: {', '.join(signatures)}")
    print(f"wrote {output / str(version)} and {output.parent / 'models.config'}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
