"""Elements of the page: everything from outside goes through :func:`text`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence


def text(value: object) -> str:
    """``value`` as text that is shown and never read as markup."""
    return html.escape(str(value))


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table from titles and finished rows; wide ones scroll on their own."""
    # Names of tasks may break behind the domain, not inside a word.
    heads = (text(title).replace("/", "/<wbr>") for title in head)
    titles = "".join(f'<th scope="col">{title}</th>' for title in heads)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def definitions(facts: Mapping[str, object]) -> str:
    """Names and values."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts.items()) + "</dl>"
