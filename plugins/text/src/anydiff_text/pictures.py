"""Texts as a picture: one panel per text, in letters of one width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from anydiff.domains.kit.pictures import panels, write_figure

WIDTH = 48
"""Characters of a line."""


def draw_texts(objects: Sequence[str], path: str | Path, titles: Sequence[str] | None = None) -> None:
    """Write ``objects`` as PNG, wrapped to lines of 48 characters."""
    wrapped = [_lines(text) for text in objects]
    height = 0.16 * max((len(lines) for lines in wrapped), default=1) + 0.4
    figure, axes = panels(max(len(objects), 1), 4.2, height, columns=2)
    for number, axis in enumerate(axes):
        axis.set_axis_off()
        if titles and number < len(titles):
            axis.set_title(titles[number], fontsize=8, loc="left")
        if number < len(wrapped):
            # A dollar sign would begin a formula.
            text = "\n".join(wrapped[number]).replace("$", r"\$")
            axis.text(0, 1, text, family="monospace", fontsize=8, va="top", transform=axis.transAxes)
    write_figure(figure, path)


def _lines(text: str) -> list[str]:
    shown = "".join(each if each.isprintable() or each == "\n" else "�" for each in text)
    return [part for line in shown.split("\n") for part in (textwrap.wrap(line, WIDTH) or [""])]
