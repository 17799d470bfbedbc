"""Loads one plugin alone in a process of its own and tells what that did. Run by :mod:`anydiff.testing.loading`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from anydiff.plugins import Plugin
from anydiff.plugins.loader import LOADED, load_alone, load_core
from anydiff.plugins.report import report_to
from anydiff.registry import CORE, KINDS, Registry, collect

NETWORK_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.sendto")


def main() -> None:
    """Write the findings as JSON to the file that the command line names."""
    question = json.loads(sys.argv[1])
    report_to(lambda sentence: None)
    calls: list[str] = []
    sys.addaudithook(lambda event, arguments: calls.append(event) if event in NETWORK_EVENTS else None)
    before = _names()
    start = time.perf_counter()
    if question["plugin"] is None:
        alone, name, problem = load_core(), CORE, ""
    else:
        alone, plugin = load_alone(Plugin(**question["plugin"]))
        name, problem = plugin.name, "" if plugin.status == LOADED else plugin.problem
    findings: dict[str, Any] = {"problem": problem, "seconds": time.perf_counter() - start}
    findings["heavy"] = sorted({"torch", "tensorflow", "jax"} & set(sys.modules))
    findings["network"] = sorted(set(calls))
    if not problem:
        registered = alone.registry.of_plugin(name)
        again = collect(name, lambda hook: alone.hooks.implementation(name, hook))
        findings["again"] = again == registered
        alone.registry.remove(name)
        alone.hooks.unregister(name)
        own = Registry() if name == CORE else load_core().registry
        findings["left"] = _differences(alone.registry, own) + _changed(before)
    Path(question["answer"]).write_text(json.dumps(findings), "utf-8")
    os._exit(0)  # neither threads nor exit handlers of the plugin can keep this process


def _differences(registry: Registry, own: Registry) -> list[str]:
    return [
        f"{kind} {entry.name!r}" for kind in KINDS for entry in registry.entries(kind) if entry not in own.entries(kind)
    ]


def _names() -> dict[str, dict[str, int]]:
    """The public attributes of every module of anydiff that is loaded, by identity."""
    return {
        module: {name: id(value) for name, value in vars(sys.modules[module]).items() if not name.startswith("_")}
        for module in sorted(sys.modules)
        if module.partition(".")[0] == "anydiff"
    }


def _changed(before: dict[str, dict[str, int]]) -> list[str]:
    now = _names()
    return [
        f"{module}.{name}, replaced"
        for module, names in before.items()
        for name, identity in names.items()
        if now[module].get(name) != identity
    ]


if __name__ == "__main__":
    main()
