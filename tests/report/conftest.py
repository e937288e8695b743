"""What the tests of all pictures share."""

from __future__ import annotations

import pytest


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn, in the order of drawing."""
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        drawn.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return drawn
