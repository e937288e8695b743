"""Decouplings as a plain-text table, and the layout of such tables."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.plans.decoupling import Decoupling
from sedona_tf.plans.plan import Plan

__all__ = ["aligned", "decoupling_rows", "decoupling_table"]

HEADINGS = ("K", "block", "units", "auxiliary net", "weight", "cut probability")


def decoupling_table(plan: Plan, decouplings: Sequence[Decoupling]) -> str:
    """Words the decouplings of a plan, one line a block.

    Args:
        plan: the searched scores.
        decouplings: what it was decoded to.

    Returns:
        Lines without a newline at the end. The weight is that of the auxiliary net among the
        candidates, the cut probability that of the unit that the block ends with.
    """
    groups = [decoupling_rows(plan, decoupling) for decoupling in decouplings]
    heading, rule, *table = aligned(HEADINGS, [row for rows in groups for row in rows])
    lines = [
        f"{plan.backbone}: {plan.num_units} units, {len(plan.candidates)} candidates a unit",
        "",
        heading,
        rule,
    ]
    for decoupling, rows in zip(decouplings, groups, strict=True):
        lines += table[: len(rows)]
        del table[: len(rows)]
        lines += [f"   tie: {tie}" for tie in decoupling.ties]
    return "\n".join(lines)


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: headings, a rule, then the rows; all columns start below one another."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return "  ".join(cells).rstrip()

    return [line(row) for row in (headings, ["-" * width for width in widths], *rows)]


def decoupling_rows(plan: Plan, decoupling: Decoupling) -> list[list[str]]:
    """The cells of a decoupling's blocks below `HEADINGS`; K stands in the first row only."""
    rows = []
    for index, (first, last) in enumerate(decoupling.blocks()):
        row = [
            str(decoupling.num_blocks) if index == 0 else "",
            str(index + 1),
            str(first) if first == last else f"{first}-{last}",
        ]
        if index < len(decoupling.cut_after):
            best = plan.candidates.index(decoupling.auxiliary[index])
            row += [
                plan.candidate_names[best],
                f"{plan.candidate_weights[last - 1][best]:.3f}",
                f"{plan.cut_probability[last - 1]:.4f}",
            ]
        else:
            row += ["(head)", "-", "-"]
        rows.append(row)
    return rows
