"""The errors a user sees: one sentence that names the field, the value and the fix.

Every error that bad input can cause derives from :class:`AnydiffError`. The command line prints its sentence and
ends with a non-zero exit code; a Python caller catches it like any ``ValueError``.
"""

from __future__ import annotations

import difflib
import math
import sys
import warnings
from collections.abc import Iterable
from typing import TextIO

__all__ = [
    "AnydiffError",
    "FileFormatError",
    "NonFiniteError",
    "NotApplicableError",
    "PluginError",
    "UnknownNameError",
    "natural_number",
    "show_warning",
]


class AnydiffError(ValueError):
    """Bad input, told in one sentence that names the field, the value and the fix."""


class UnknownNameError(AnydiffError):
    """A name (solver, recipe, option, ...) that nothing provides.

    Attributes:
        known: the names that exist.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.known = known = sorted(known)
        matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        if matches:
            advice = f"did you mean {matches[0]!r}?"
        elif known:
            advice = f"known: {', '.join(known)}."
        else:
            advice = "none is known."
        super().__init__(f"unknown {what} {name!r}; {advice}{' ' + hint if hint else ''}")


class NotApplicableError(AnydiffError):
    """A method that is sound in itself, asked where it has no meaning: on another kind of path, or with too few calls.

    A benchmark that runs every method on every task leaves such a cell empty instead of calling it a failure.
    """


class FileFormatError(AnydiffError):
    """A file that is truncated, foreign, or of another version."""


class PluginError(AnydiffError):
    """A plugin that cannot be loaded or breaks the rules of registration."""


class NonFiniteError(AnydiffError):
    """A NaN or an infinity, located: the message names the first bad tensor."""


def natural_number(field: str, value: object, minimum: int = 1) -> int:
    """``value`` as an int, or an :class:`AnydiffError` that names ``field``, the value and the least allowed."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None and hasattr(value, "__index__") and not isinstance(value, bool):
        number = value.__index__()
    if number is None or number < minimum:
        raise AnydiffError(f"{field} is {value!r}, but must be a whole number of at least {minimum}.")
    return number


def real_number(field: str, value: object, least: float = -math.inf, most: float = math.inf) -> float:
    """``value`` as a finite float, or an :class:`AnydiffError` that names ``field``, the value and its bounds."""
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and least <= number <= most):
        bounds = [f" of at least {least:g}"] if math.isfinite(least) else []
        bounds += [f"{' and' if bounds else ' of'} at most {most:g}"] if math.isfinite(most) else []
        raise AnydiffError(f"{field} is {value}, but must be a finite number{''.join(bounds)}.")
    return number


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning to a user in one sentence, for ``warnings.showwarning`` of our processes; others with file and line."""
    if issubclass(category, UserWarning):
        print(f"anydiff: {message}", file=file or sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)
