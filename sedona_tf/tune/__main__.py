"""Tunes cuts and auxiliary nets with keras-tuner: every trial is a training of its own.

Examples:
  python -m sedona_tf.tune --recipe digits --blocks 2 --max_trials 20 --epochs 3
  python -m sedona_tf.tune --recipe digits --blocks 4 --max_trials 60 --tuner hyperband
  python -m sedona_tf.tune --recipe digits --blocks 2 --max_trials 40 --epochs 3 --resume
  python -m sedona_tf.train --recipe digits --blocks 2 \\
      --plan runs/digits_tune_k2/decoupling.json

Writes decoupling.json (the best trial's), trials.json, the resolved recipe and keras-tuner's state.
Trials are compared by the head's error on the validation part. See docs/tune.md.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.path_flag import define_path
from sedona_tf.command_line.recipe_flag import define_recipe
from sedona_tf.recipe import check_tune, require_files
from sedona_tf.runs.kept_recipe import kept_recipe

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_recipe()
    flags.DEFINE_integer("blocks", 4, "number of blocks K.", lower_bound=2)
    flags.DEFINE_integer(
        "max_trials", None, "trials in all.", required=True, lower_bound=1, upper_bound=10**6
    )
    flags.DEFINE_enum(
        "tuner", "random", ("random", "bayesian", "hyperband"), "what decides what to try."
    )
    flags.DEFINE_integer(
        "epochs",
        None,
        "epochs of a trial, for hyperband of the longest ones; the recipe's train.epochs if not "
        "given.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "max_seconds",
        0.0,
        "start no trial once they have taken so long in all; 0: no limit.",
        lower_bound=0.0,
    )
    define_path("workdir", None, "folder of the run; runs/RECIPE_tune_kBLOCKS by default.")
    flags.DEFINE_bool("resume", False, "go on with the folder's trials.")


def main() -> None:
    """Runs the command."""
    recipe, blocks = flags.FLAGS.recipe, flags.FLAGS.blocks
    check_tune(recipe)
    workdir = Path(flags.FLAGS.workdir or f"runs/{recipe.name}_tune_k{blocks}")
    kept_recipe(workdir, "tune", flags.FLAGS.resume)
    require_files(recipe)
    with command_line.progress():
        command_line.start_tensorflow()
        from sedona_tf.tune.run import run_tuning
        from sedona_tf.tune.table import trial_table

        trials = run_tuning(
            recipe,
            workdir,
            num_blocks=blocks,
            max_trials=flags.FLAGS.max_trials,
            tuner=flags.FLAGS.tuner,
            epochs=flags.FLAGS.epochs,
            max_seconds=flags.FLAGS.max_seconds,
            resume=flags.FLAGS.resume,
        )
    print(trial_table(trials))
    print(f"wrote {workdir / 'decoupling.json'} and {workdir / 'trials.json'}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
