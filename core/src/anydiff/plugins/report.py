"""Where sentences about broken plugins go: a Python warning, or wherever the command line sends them."""

from __future__ import annotations

import warnings
from collections.abc import Callable


class PluginWarning(UserWarning):
    """A plugin was not loaded, or failed while it listened to an event; everything else goes on."""


def _warn(sentence: str) -> None:
    warnings.warn(sentence, PluginWarning, stacklevel=4)


_reporter: Callable[[str], None] = _warn


def report(sentence: str) -> None:
    """Tell the user one sentence about a plugin."""
    _reporter(sentence)


def report_to(reporter: Callable[[str], None] | None) -> None:
    """Send sentences to ``reporter`` instead of :func:`warnings.warn`; ``None`` restores the warning."""
    global _reporter
    _reporter = reporter or _warn
