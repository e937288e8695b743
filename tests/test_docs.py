"""What the documents say about the tree."""

from __future__ import annotations

import re

import pytest
from search_runs import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")]


def test_files_that_documents_name_are_there():
    roots = (ROOT, ROOT / "sedona_tf")
    named = {
        (document.name, path)
        for document in DOCUMENTS
        for path in re.findall(r"[`( ]((?:[a-z_]+/)+[a-z_]+\.(?:py|md|sh))\b", document.read_text())
    }
    assert len(named) > 50
    missing = [each for each in named if not any((root / each[1]).exists() for root in roots)]
    assert not missing


def test_the_layers_drawn_are_those_that_lint_holds():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    held = [set(layer.split(" | ")) for layer in settings["contracts"][0]["layers"]]
    text = (ROOT / "docs/design.md").read_text()
    lines = text.split("```text\n")[1].split("```")[0].splitlines()[1:]
    drawn = [set(line[14:].split()) for line in lines]
    assert drawn == held
