"""Which plugin was at work when something unexpected was raised, told by the frames of the error."""

from __future__ import annotations

import traceback
from pathlib import Path

from anydiff.plugins.discovery import Plugin
from anydiff.plugins.loader import loaded


def at_work(error: BaseException) -> str:
    """``while plugin 'orchard' (anydiff-orchard 1.0) was at work, line 12 of parts.py``; empty where none was.

    It is the plugin whose code is nearest to where the error was raised: it raised the error itself, or handed
    something to the core that the core cannot work with.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        owner = next((plugin for plugin in loaded().plugins if _owns(plugin, top, file)), None)
        if owner is not None:
            return f"while {owner.label} was at work, line {line} of {Path(file).name}"
    return ""


def _owns(plugin: Plugin, top: str, file: str) -> bool:
    if not plugin.distribution:
        return Path(plugin.source).resolve() == Path(file).resolve()
    return plugin.source.partition(":")[0].strip().partition(".")[0] == top
