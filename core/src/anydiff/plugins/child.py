"""What the processes run in which plugins are loaded that may end or hang: the bodies of trial and doctor.

Each has one argument, plain data as JSON, writes its answer into a file and ends without handlers of a plugin.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from anydiff.plugins.discovery import Plugin
from anydiff.plugins.leavings import Before
from anydiff.plugins.loader import LOADED, load_alone, load_together
from anydiff.plugins.report import report_to


def load_all() -> None:
    """Load the plugins that the command line names: the body of the child process."""
    question = json.loads(sys.argv[1])
    sys.path[:] = question["path"]
    report_to(lambda sentence: None)
    at, before = Path(question["at"]), Before()

    def begin(plugin: Plugin) -> None:
        at.write_text(plugin.name, "utf-8")

    def end(plugin: Plugin) -> None:
        found = before.harm()
        if found:
            at.with_name("why").write_text(found, "utf-8")
            os._exit(1)

    load_together([Plugin(**each) for each in question["plugins"]], begin, end)
    Path(question["done"]).write_text("", "utf-8")
    os._exit(0)  # neither threads nor exit handlers of a plugin can keep this process


def load_one() -> None:
    """Load the plugin that the command line describes and write the answer: the body of the child process."""
    question = json.loads(sys.argv[1])
    sys.path[:] = question["path"]
    plugin = Plugin(**question["plugin"])
    report_to(lambda sentence: None)
    start = time.perf_counter()
    alone, plugin = load_alone(plugin)
    seconds = time.perf_counter() - start
    imports_torch = "torch" in sys.modules
    problem = plugin.problem if plugin.status != LOADED else ""
    provides: dict[str, list[str]] = {}
    for entry in alone.registry.of_plugin(plugin.name):
        provides.setdefault(entry.kind, []).append(entry.name)
        if question["references"] and not problem:
            try:
                entry.load()
            except ValueError as error:  # PluginError is one; the sentence says what is missing
                problem = str(error)
    answer = {
        "works": not problem,
        "seconds": round(seconds, 3),
        "imports_torch": imports_torch,
        "provides": provides,
        "problem": problem,
    }
    Path(question["answer"]).write_text(json.dumps(answer), "utf-8")
    os._exit(0)  # neither threads nor exit handlers of the plugin can keep this process
