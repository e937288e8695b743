"""Searches for a plan: where to cut a network and which auxiliary net to put at each cut.

Examples:
  python -m sedona_tf.search --recipe digits
  python -m sedona_tf.search --recipe digits:smoke --workdir /tmp/smoke
  python -m sedona_tf.search --recipe cifar10 --recipe.backbone.name=vgg19
  python -m sedona_tf.search --recipe my_recipe.py --workdir runs/mine --resume

Writes plan.json, report.png, history.json, the resolved recipe, checkpoints and TensorBoard logs.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.path_flag import define_path
from sedona_tf.command_line.recipe_flag import define_recipe
from sedona_tf.recipe import check_search, require_files
from sedona_tf.runs.kept_recipe import kept_recipe

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_recipe()
    define_path("workdir", None, "folder of the run; runs/NAME OF THE RECIPE if not given.")
    flags.DEFINE_bool("resume", False, "go on from the folder's checkpoint.")


def main() -> None:
    """Runs the command."""
    recipe = flags.FLAGS.recipe
    check_search(recipe)
    workdir = Path(flags.FLAGS.workdir or f"runs/{recipe.name}")
    kept_recipe(workdir, "search", flags.FLAGS.resume)
    require_files(recipe)
    with command_line.progress():
        command_line.start_tensorflow()
        from sedona_tf.report.tables import decoupling_table
        from sedona_tf.search.run import run_search

        plan = run_search(recipe, workdir, flags.FLAGS.resume)
    print(decoupling_table(plan, [plan.decode(k) for k in (2, 4, 8) if k <= len(plan.units)]))
    print(
        f"wrote {workdir / 'plan.json'} and {workdir / 'report.png'}; a page of them: "
        f"{command_line.page_of(workdir)}"
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
