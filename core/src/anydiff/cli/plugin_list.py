"""The list of installed plugins, from metadata and what is remembered of the last load. Imports no plugin, no typer."""

from __future__ import annotations

from typing import Any

from anydiff.cli.output import print_json, print_table, tell
from anydiff.plugins import state
from anydiff.plugins.discovery import DISABLED, ENABLED, EXCLUDED, Discovery, Plugin, discover


def list_plugins(json: bool) -> None:
    """Print the plugins as a table, or as JSON, and what is wrong with them to stderr."""
    found = discover()
    records = [record(plugin) for plugin in found.plugins]
    if json:
        print_json({"plugins": records, "notes": found.notes})
        return
    if not records:
        tell("no plugins are installed; for example `pip install anydiff-images`.")
    else:
        columns = ["plugin", "distribution", "version", "asks for", "status", "provides"]
        print_table(columns, [_row(each) for each in records])
    _tell_problems(found, records)


def record(plugin: Plugin) -> dict[str, Any]:
    """Return everything known about a plugin without importing it, as plain data."""
    last = state.recall(plugin.name)
    if last.get("version") != plugin.version:
        last = {}
    provides = last.get("provides")
    problem = plugin.problem or str(last.get("problem") or "")
    status = "failed" if plugin.status == ENABLED and problem else plugin.status
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": plugin.source,
        "requires_anydiff": plugin.requires,
        "status": status,
        "problem": problem,
        "tried": bool(last),
        "hooks": last.get("hooks", []),
        "provides": provides if isinstance(provides, dict) else {},
    }


def _row(each: dict[str, Any]) -> list[str]:
    counts = [f"{len(entries)} {kind}" for kind, entries in each["provides"].items()]
    provides = ", ".join(counts) if each["tried"] else "not tried yet"
    asked = f"anydiff{each['requires_anydiff']}" if each["requires_anydiff"] else "any"
    origin = each["distribution"] or each["source"]
    return [each["name"], origin, each["version"], asked, each["status"], provides]


def _tell_problems(found: Discovery, records: list[dict[str, Any]]) -> None:
    for note in found.notes:
        tell(note)
    for each in records:
        if each["problem"] and each["status"] not in (DISABLED, EXCLUDED):
            tell(each["problem"])
