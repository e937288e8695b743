"""Measures what a network's parts cost here, and predicts what cutting it would gain.

Examples:
  python -m sedona_tf.profile --recipe digits --blocks 2,4
  python -m sedona_tf.profile --recipe fashion_mnist_resnet18 --plan fashion_mnist_resnet18 \\
      --blocks 2,4,8 --devices CPU:0,CPU:1
  python -m sedona_tf.decode --plan fashion_mnist_resnet18 --blocks 4 --max_slowdown 1.1 \\
      --costs runs/fashion_mnist_resnet18_profile/costs.json --output runs/balanced.json

Writes costs.json and front.png into the workdir and prints tables: the parts as measured; for each
K, the decouplings that none beats in both score and speed; and ways to train, with a
recommendation. All but the first table are predictions. It reads no data. See docs/profile.md.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.blocks_flag import numbers_of_blocks
from sedona_tf.command_line.path_flag import define_path
from sedona_tf.command_line.recipe_flag import define_recipe
from sedona_tf.environment.kernels import count_cpus, keep_to_share_of_cores
from sedona_tf.plans import Plan
from sedona_tf.profile.costs import COSTS_FILE, require_no_costs
from sedona_tf.profile.predict import Link
from sedona_tf.recipe import check_train
from sedona_tf.shipped import plan_file

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_recipe()
    flags.DEFINE_string(
        "plan", None, "file or name of a plan; without one, all cuts count as equally good."
    )
    flags.DEFINE_list("blocks", ["2", "4", "8"], "numbers of blocks K, separated by commas.")
    flags.DEFINE_string(
        "devices", "auto", "names separated by commas, such as CPU:0,CPU:1; the first is measured."
    )
    flags.DEFINE_integer("batch", None, "images a step; the recipe's if not given.", lower_bound=1)
    flags.DEFINE_float(
        "bandwidth", None, "of the link between devices, GB/s; unlimited if not given.", 1e-9
    )
    flags.DEFINE_float("latency", 0.0, "of the link, milliseconds.", 0.0)
    define_path("workdir", None, "folder of the results; runs/RECIPE_profile by default.")
    define_path(
        "cache", "runs/part_costs.json", "file of what was measured before, by device and shape."
    )


def main() -> None:
    """Runs the command."""
    recipe, devices = flags.FLAGS.recipe, flags.FLAGS.devices
    blocks = numbers_of_blocks(flags.FLAGS.blocks)
    plan = None if flags.FLAGS.plan is None else plan_file(flags.FLAGS.plan)
    check_train(recipe)
    if plan is not None:
        Plan.load(plan)
    workdir = Path(flags.FLAGS.workdir or f"runs/{recipe.name}_profile")
    require_no_costs(workdir)
    count, bandwidth = count_cpus(devices), flags.FLAGS.bandwidth
    link = Link(bandwidth * 1e9 if bandwidth else float("inf"), flags.FLAGS.latency / 1e3)
    keep_to_share_of_cores(count)  # before TensorFlow makes its threads
    with command_line.progress():
        command_line.start_tensorflow(count)
        from sedona_tf.profile.run import profile
        from sedona_tf.train.placement import make_cpu_devices

        make_cpu_devices(count)
        tables = profile(
            recipe,
            workdir,
            plan=plan,
            blocks=blocks,
            devices=devices,
            batch_size=flags.FLAGS.batch,
            link=link,
            cache=flags.FLAGS.cache,
        )
    print(tables)
    print(f"wrote {workdir / COSTS_FILE} and {workdir / 'front.png'}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
