"""Trains a network as gradient-isolated blocks, or end to end for comparison.

Examples:
  python -m sedona_tf.train --recipe digits --plan runs/digits/plan.json --blocks 2
  python -m sedona_tf.train --recipe digits --method backprop
  python -m sedona_tf.train --recipe digits --method dgl --blocks 4 --devices CPU:0,CPU:1
  python -m sedona_tf.train --recipe digits --method dgl --blocks 2 --resume
  python -m sedona_tf.train --recipe imagenet --plan published/resnet50_k4 --blocks 4 --dry_run

Writes checkpoints, metrics.json, curves.png, history.json, the resolved recipe, the decoupling and
TensorBoard logs into the workdir. With --dry_run it reads and writes nothing: it builds all, takes
a few steps on noise and prints what each block costs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from absl import flags

from sedona_tf import command_line
from sedona_tf.cluster.addresses import parse_addresses
from sedona_tf.command_line.path_flag import define_path
from sedona_tf.command_line.recipe_flag import define_recipe
from sedona_tf.environment.kernels import count_cpus
from sedona_tf.plans import METHODS, load_decoupling, require_plan
from sedona_tf.recipe import check_train, require_files
from sedona_tf.runs.kept_recipe import kept_recipe
from sedona_tf.shipped import plan_file, plan_names

__all__ = ["define_flags", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since commands share some names."""
    define_recipe()
    flags.DEFINE_enum("method", "sedona", METHODS, "sedona decodes --plan; the others need none.")
    flags.DEFINE_string(
        "plan",
        None,
        f"file of a plan or a decoupling, or one of {', '.join(plan_names())}.",
    )
    flags.DEFINE_integer("blocks", 4, "number of blocks K; backprop has one.", lower_bound=1)
    define_path("workdir", None, "folder of the run; runs/RECIPE_METHOD_kBLOCKS by default.")
    flags.DEFINE_bool("resume", False, "go on from the folder's checkpoint.")
    flags.DEFINE_string(
        "devices", "auto", "names separated by commas, such as CPU:0,CPU:1; auto: all there are."
    )
    flags.DEFINE_string(
        "cluster",
        None,
        "workers (python -m sedona_tf.worker) that hold the blocks, such as host1:2222,host2:2222; "
        "in place of --devices. See docs/devices.md.",
    )
    flags.DEFINE_bool("dry_run", False, "take a few steps on noise and print the costs.")
    flags.DEFINE_integer(
        "dry_run_batch", 8, "images a step of --dry_run, at most the recipe's.", lower_bound=1
    )


def _check(plan: str | None, blocks: int) -> None:
    """Refuses wrong input as far as possible without TensorFlow, which takes seconds to start.

    Raises:
        UserError: for a wrong recipe, plan or cluster.
    """
    check_train(flags.FLAGS.recipe)
    require_plan(flags.FLAGS.method, plan)
    if plan is not None:
        load_decoupling(plan, None, blocks)
    if flags.FLAGS.cluster:
        parse_addresses(flags.FLAGS.cluster)


def main() -> None:
    """Runs the command."""
    recipe, method, devices = flags.FLAGS.recipe, flags.FLAGS.method, flags.FLAGS.devices
    plan = None if flags.FLAGS.plan is None else plan_file(flags.FLAGS.plan)
    blocks = 1 if method == "backprop" else flags.FLAGS.blocks
    _check(plan, blocks)
    workdir = Path(flags.FLAGS.workdir or f"runs/{recipe.name}_{method}_k{blocks}")
    resume, cluster = flags.FLAGS.resume, flags.FLAGS.cluster
    if not flags.FLAGS.dry_run:
        kept_recipe(workdir, "train", resume)
        require_files(recipe)
    processors = count_cpus(devices)
    with command_line.progress(), contextlib.ExitStack() as stack:
        command_line.start_tensorflow(processors)
        from sedona_tf.cluster import connect, guarded
        from sedona_tf.evaluate.table import evaluation_table
        from sedona_tf.profile.dry_run import dry_run
        from sedona_tf.train.placement import make_cpu_devices
        from sedona_tf.train.run import run_training

        make_cpu_devices(processors)
        callbacks = []
        if cluster:
            devices = connect(cluster)
            callbacks.append(stack.enter_context(guarded(cluster)))
        settings = {"method": method, "plan": plan, "num_blocks": blocks, "devices": devices}
        if flags.FLAGS.dry_run:
            tables = str(dry_run(recipe, **settings, batch_size=flags.FLAGS.dry_run_batch))
        else:
            evaluation = run_training(
                recipe, workdir, **settings, resume=resume, extra_callbacks=callbacks
            )
            tables = evaluation_table(evaluation, "test")
    print(tables)
    if flags.FLAGS.dry_run:
        return
    print(
        f"wrote {workdir / 'metrics.json'} and {workdir / 'curves.png'}; a page of them: "
        f"{command_line.page_of(workdir)}"
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main, __doc__)
