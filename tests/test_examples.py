"""The example in examples/ runs, small, and learns."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest
import tensorflow as tf
from search_runs import ENVIRONMENT, ROOT

from sedona_tf.plans import Plan


def test_decoupled_digits(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/decoupled_digits.py")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"SEARCH_STEPS": "2", "EPOCHS": "5", "OUTPUT": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    errors = dict(re.findall(r"test error of (.*): ([\d.]+)", done.stdout))
    assert errors.keys() == {"the exit after block 1", "the head", "both, calibrated"}
    assert all(float(error) < 0.45 for error in errors.values()), errors  # chance is 0.9
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.num_units == 8 and any(abs(p - 0.5) > 1e-4 for p in plan.cut_probability)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    assert served.serve(tf.zeros((2, 8, 8, 1))).shape == (2, 10)
    assert (tmp_path / "model.keras").stat().st_size > 0


def test_the_docs_show_the_example():
    """A formatter of code in Markdown once rewrote the marker, which mkdocs then took for code."""
    assert '\n--8<-- "examples/decoupled_digits.py"\n' in (ROOT / "docs/example.md").read_text()


@pytest.mark.parametrize("words", ["", " it adds up."])
def test_the_docs_show_examples_of_docstrings_as_code(words):
    """With words after the colon too, which made nested quotes of them, one for each `>`."""
    griffe = pytest.importorskip("griffe")  # of the extra `docs`
    extension = runpy.run_path(str(ROOT / "docs/docstring_examples.py"))["DocstringExamples"]()
    text = f"Adds.\n\nExample:{words}\n    >>> 1 + 1\n    2\n\nArgs:\n    x: a number."
    shown = griffe.Class("C", docstring=griffe.Docstring(text))
    extension.on_object(obj=shown)
    summary, examples, arguments = shown.docstring.parse("google", warnings=False)
    kinds = [section.kind.value for section in (summary, examples, arguments)]
    assert kinds == ["text", "examples", "parameters"]
    prose = [(griffe.DocstringSectionKind.text, "It adds up.")] if words else []
    code = (griffe.DocstringSectionKind.examples, ">>> 1 + 1\n2")
    assert examples.value == [*prose, code]
