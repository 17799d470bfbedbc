"""Finding, checking and loading plugins; calling their hooks. Imports no torch.

``discover()`` reads metadata and imports nothing; ``loaded()`` loads, once per process, what may be loaded;
``hooks()`` calls events and transforms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anydiff.exports import on_demand

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
    from anydiff.plugins.source import Source as Source
    from anydiff.plugins.source import source_of as source_of

# Lazily, because a list of plugins needs neither pluggy nor the loader.
_EXPORTS = {
    "Discovery": "anydiff.plugins.discovery",
    "Plugin": "anydiff.plugins.discovery",
    "discover": "anydiff.plugins.discovery",
    "Loaded": "anydiff.plugins.loader",
    "forget": "anydiff.plugins.loader",
    "hooks": "anydiff.plugins.loader",
    "load_core": "anydiff.plugins.loader",
    "loaded": "anydiff.plugins.loader",
    "use_folder": "anydiff.plugins.loader",
    "PluginWarning": "anydiff.plugins.report",
    "report_to": "anydiff.plugins.report",
    "Source": "anydiff.plugins.source",
    "source_of": "anydiff.plugins.source",
}

__all__ = ["PluginWarning", "Source", "hooks", "source_of", "use_folder"]

__getattr__ = on_demand(__name__, _EXPORTS)
