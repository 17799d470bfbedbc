"""Formulas of the documentation as MathML, which browsers draw by themselves: no script, nothing from elsewhere."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

#: Code comes first, so that a dollar sign in it is left alone.
_PATTERN = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace ``$...$`` and ``$$...$$`` outside code by MathML (a hook of mkdocs)."""
    return _PATTERN.sub(_replace, markdown)


def _replace(match: re.Match[str]) -> str:
    if match["code"]:
        return match[0]
    if match["block"]:
        return f"\n\n<div>{convert(match['block'].strip(), display='block')}</div>\n\n"
    # A line that begins with <math> would be a block of its own; in tables a bar would end the cell.
    return f"<span>{convert(match['inline']).replace('|', '&#x7C;')}</span>"
