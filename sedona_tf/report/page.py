"""One HTML page that shows a search, trainings or both, without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.report.read_run import Search, Training
from sedona_tf.report.sections import comparable, search_section, training_section

__all__ = ["render_page"]


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
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    shown = [training_section(training, f"training-{n}") for n, training in enumerate(trainings, 1)]
    trained = {training.metrics.num_blocks for training in trainings}
    section = search_section(search, trained) if search else None
    folders = [each.folder for each in ([search] if search else []) + list(trainings)]
    return environment.get_template("page.html").render(
        title=section["title"] if section else shown[0]["title"],
        search=section,
        trainings=shown,
        groups=comparable(shown),
        sources=", ".join(folders),
    )
