"""Finding, checking and loading plugins; calling their hooks. Imports no torch.

``discover()`` reads metadata and imports nothing; ``loaded()`` loads, once per process, what may be loaded;
``hooks()`` calls events and transforms.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anydiff.plugins.discovery import Discovery as Discovery
    from anydiff.plugins.discovery import Plugin as Plugin
    from anydiff.plugins.discovery import discover as discover
    from anydiff.plugins.loader import Loaded as Loaded
    from anydiff.plugins.loader import forget as forget
    from anydiff.plugins.loader import hooks as hooks
    from anydiff.plugins.loader import load_core as load_core
    from anydiff.plugins.loader import loaded as loaded
    from anydiff.plugins.loader import use_folder as use_folder
    from anydiff.plugins.report import PluginWarning as PluginWarning
    from anydiff.plugins.report import report_to as report_to

# Lazily, because a list of plugins needs neither pluggy nor the loader.
_EXPORTS = {
    "Discovery": "discovery",
    "Plugin": "discovery",
    "discover": "discovery",
    "Loaded": "loader",
    "forget": "loader",
    "hooks": "loader",
    "load_core": "loader",
    "loaded": "loader",
    "use_folder": "loader",
    "PluginWarning": "report",
    "report_to": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'anydiff.plugins' has no attribute {name!r}")
    return getattr(importlib.import_module(f"anydiff.plugins.{_EXPORTS[name]}"), name)
