"""Lets the reference show `Example:` sections of docstrings as code; griffe knows `Examples:`.

griffe takes `Example: words` for a note, in which Markdown takes `>>>` for nested quotes.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Renames the section in what griffe has read; the sources stay."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^( *)Example:(?: (.+))?$", _section, obj.docstring.value, flags=re.MULTILINE
            )


def _section(found: re.Match) -> str:
    indent, words = found.groups()
    first = f"\n{indent}    {words[0].upper()}{words[1:]}\n" if words else ""
    return f"{indent}Examples:{first}"
