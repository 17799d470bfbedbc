"""Which other plugins the code of one speaks of: by importing them, or by writing a name that they registered.

A solver may apply an operation of another plugin, or build another plugin's solver inside. Neither stands in a recipe
or a suite, so it is read from the text of the code: modules that it imports, and words in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from anydiff.plugins.discovery import Plugin
from anydiff.registry import Entry

_READ = (".py", ".yaml", ".yml", ".json", ".toml")
_LARGEST = 1_000_000
"""Bytes; a larger file is data."""
_IMPORTED = re.compile(r"^\s*(?:from|import)\s+(\w+(?:[ \t]*,[ \t]*\w+)*)", re.MULTILINE)
_QUOTED = re.compile(r"""["']([A-Za-z0-9][\w.+/:@-]*)(?=["'{])""")


def words(files: Iterable[Path]) -> set[str]:
    """Modules that ``files`` import, and whatever stands in quotes there and could be a name or a reference."""
    found: set[str] = set()
    for path in files:
        try:
            if path.suffix not in _READ or path.stat().st_size > _LARGEST:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # whoever hashes the file says why it cannot be read
        for line in _IMPORTED.findall(text):
            found.update(re.split(r"[ \t]*,[ \t]*", line))
        for quoted in _QUOTED.findall(text):
            found.update((quoted, re.split(r"[:.]", quoted)[0]) if ":" in quoted else (quoted,))
    return found


def speaks_of(said: set[str], plugin: Plugin, entries: Iterable[Entry]) -> bool:
    """Whether ``said``, the words of some code, name a module of ``plugin``, one of its ``entries``, or begin one.

    The bare name of a domain (``"images"``) is an everyday word and does not count.
    """
    module = re.split(r"[:.]", plugin.source)[0].strip() if plugin.distribution else Path(plugin.source).stem
    if module in said or f"{plugin.name}/" in said:
        return True
    return any(entry.name in said for entry in entries if "/" in entry.name or entry.kind != "domains")
