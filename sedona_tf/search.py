"""Searches for a plan: where to cut a network and which auxiliary net to put at each cut.

Examples:
  python -m sedona_tf.search --recipe recipes/digits.py
  python -m sedona_tf.search --recipe recipes/digits.py:smoke --workdir /tmp/smoke
  python -m sedona_tf.search --recipe recipes/cifar10.py --recipe.backbone.name=vgg19
  python -m sedona_tf.search --recipe recipes/digits.py --workdir runs/digits --resume

Writes plan.json, report.png, the resolved recipe, checkpoints and TensorBoard logs.
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from sedona_tf import command_line

_RECIPE = config_flags.DEFINE_config_file(
    "recipe", help_string="Recipe file; --recipe.FIELD=VALUE changes a field."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<recipe's name>.")
_RESUME = flags.DEFINE_bool("resume", False, "Go on from the folder's checkpoint.")
flags.mark_flag_as_required("recipe")


def main() -> None:
    """Runs the command."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # a tenth faster on our machine
    recipe = _RECIPE.value
    workdir = Path(_WORKDIR.value or f"runs/{recipe.name}")
    print("starting TensorFlow", flush=True)
    from sedona_tf.bilevel.run import run_search
    from sedona_tf.reporting.table import decoupling_table

    plan = run_search(recipe, workdir, _RESUME.value)
    print(decoupling_table(plan, [k for k in (2, 4, 8) if k <= len(plan.units)]))
    print(f"wrote {workdir / 'plan.json'} and {workdir / 'report.png'}")


if __name__ == "__main__":
    command_line.run(main, __doc__)
