"""Measured costs and predicted times as plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.plans.decoupling import Decoupling
from sedona_tf.profile.costs import Costs
from sedona_tf.profile.predict import end_to_end
from sedona_tf.report.tables import aligned

__all__ = ["cost_table", "predicted_table"]


def predicted_table(costs: Costs, decouplings: Sequence[Decoupling]) -> str:
    """What pipelines of decouplings are predicted to take, one line each.

    Args:
        costs: of the network and the candidates.
        decouplings: of this network.

    Raises:
        UserError: if the costs are of something else.
    """
    alone = end_to_end(costs).seconds
    rows = []
    for decoupling in decouplings:
        seconds = [block.seconds for block in costs.of(decoupling)]
        rows.append(
            (
                str(decoupling.num_blocks),
                ", ".join(f"{1000 * each:.1f}" for each in seconds),
                f"{alone / max(seconds):.2f}",
            )
        )
    headings = ("K", "predicted step of each block (ms)", "predicted speed-up, a device a block")
    measured = f"Predictions from parts measured on {costs.device}, batch {costs.batch_size}:"
    return "\n".join([measured, "", *aligned(headings, rows)])


def cost_table(costs: Costs) -> str:
    """The measured parts: milliseconds, spread, memory, FLOPs; candidates as their range."""
    rows = []
    names = [*(name for name, _ in costs.units), "head"]
    parts = [*costs.unit_costs, costs.head_cost]
    candidates = [*costs.auxiliary_costs, (), ()]  # none after the last unit and after the head
    for name, part, nets in zip(names, parts, candidates, strict=True):
        times = sorted(1000 * net.seconds for net in nets)
        rows.append(
            (
                name,
                f"{1000 * part.forward_s:.2f}",
                f"{1000 * part.backward_s:.2f}",
                f"{1000 * part.update_s:.2f}",
                f"{part.spread:.0%}",
                f"{part.activation_bytes / 2**20:.1f}",
                f"{part.parameter_bytes / 2**20:.2f}",
                f"{part.flops / 1e6:.1f}",
                f"{times[0]:.2f} to {times[-1]:.2f}" if times else "-",
            )
        )
    headings = (
        *("measured", "forward (ms)", "backward", "update", "spread"),
        *("kept (MiB)", "weights (MiB)", "MFLOP", "auxiliary nets (ms)"),
    )
    return "\n".join(aligned(headings, rows))
