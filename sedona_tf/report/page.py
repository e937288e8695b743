"""One HTML page that shows a search, trainings or both, without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.report.curves import HEAD, block_colours
from sedona_tf.report.formats import percent, thousands
from sedona_tf.report.read_run import Search, Training
from sedona_tf.report.search_part import search_part
from sedona_tf.report.training_part import comparison_part, training_part

__all__ = ["render_page"]

ON_LIGHT, ON_DARK = (0.0, 0.75), (0.45, 0.95)
"""The parts of the blocks' scale of colours that show on a light and on a dark page."""
HEAD_ON_DARK = "#f2853f"


def render_page(search: Search | None, trainings: Sequence[Training]) -> str:
    """Makes the page.

    Args:
        search: what to show of a search, if anything.
        trainings: what to show of trainings; with no search, at least one.

    Returns:
        HTML; all that comes from files is escaped. Equal arguments give equal pages.
    """
    # Imported here: --help starts without it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sedona_tf", "report/templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "thousands": thousands}
    shown = [training_part(training, f"training-{n}") for n, training in enumerate(trainings, 1)]
    trained = {training.metrics.num_blocks for training in trainings}
    part = search_part(search, trained) if search else None
    drawn = {each["blocks"] for each in part["networks"]} if part else set()
    folders = [each.folder for each in ([search] if search else []) + list(trainings)]
    return (
        environment.get_template("page.html").render(
            title=part["title"] if part else shown[0]["title"],
            eyebrow="SEDONA search" if part else "Training in blocks",
            search=part,
            trainings=shown,
            comparison=comparison_part(shown),
            block_css=_block_css({1} | trained | drawn),
            sources=", ".join(folders),
        )
        + "\n"
    )


def _block_css(numbers: set[int]) -> str:
    """For each number of blocks K, the colours `--b1` to `--bK` inside elements of class `k-K`."""

    def rules(ends: tuple[float, float], head: str) -> str:
        return "\n".join(
            f".k-{number} {{ "
            + " ".join(
                f"--b{block}: {colour};"
                for block, colour in enumerate([*block_colours(number, *ends), head], 1)
            )
            + " }"
            for number in sorted(numbers)
        )

    dark = rules(ON_DARK, HEAD_ON_DARK)
    return f"{rules(ON_LIGHT, HEAD)}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
