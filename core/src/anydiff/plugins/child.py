"""What the processes run in which plugins are loaded that may end or hang: the bodies of trial and doctor.

Each has one argument, plain data as JSON, writes its answer into a file and ends without handlers of a plugin.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from anydiff.plugins.discovery import Plugin
from anydiff.plugins.loader import LOADED, load_alone, load_together
from anydiff.plugins.report import report_to


def load_all() -> None:
    """Load the plugins that the command line names: the body of the child process."""
    question = json.loads(sys.argv[1])
    sys.path[:] = question["path"]
    report_to(lambda sentence: None)
    at = Path(question["at"])

    def begin(plugin: Plugin) -> None:
        at.write_text(plugin.name, "utf-8")

    def end(plugin: Plugin) -> None:
        found = left_behind()
        if found:
            at.with_name("why").write_text(found, "utf-8")
            os._exit(1)

    load_together([Plugin(**each) for each in question["plugins"]], begin, end)
    Path(question["done"]).write_text("", "utf-8")
    os._exit(0)  # neither threads nor exit handlers of a plugin can keep this process


def left_behind() -> str:
    """What an import changed for the whole process, to the harm of every command; empty where nothing."""
    for number, name in ((1, "output"), (2, "error output")):
        try:
            os.fstat(number)
        except OSError:
            return f"closes the program's {name} when it is loaded"
    if any(not each.daemon and each is not threading.current_thread() for each in threading.enumerate()):
        return "leaves a thread running that keeps every command from ending"
    torch = sys.modules.get("torch")
    if torch is not None and str(getattr(torch, "get_default_dtype", lambda: "torch.float32")()) != "torch.float32":
        return "changes torch's default type for every model when it is loaded"
    return ""


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
