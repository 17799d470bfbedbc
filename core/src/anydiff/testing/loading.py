"""Loading: what a plugin may do to a program that only has it installed. Found out in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anydiff.hookspecs import API_VERSION
from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

BUDGET_SECONDS = 1.0
"""What loading one plugin may add to every command, without the interpreter's own start."""
LIMIT_SECONDS = 60.0


def _findings(plugin: Subject) -> dict[str, Any]:
    """What the child process found, asked once per plugin."""
    known: dict[str, Any] | None = getattr(plugin, "_findings", None)
    if known is None:
        known = _ask(plugin)
        plugin._findings = known  # type: ignore[attr-defined]
    return known


def _ask(plugin: Subject) -> dict[str, Any]:
    answer = plugin.scratch / "loading.json"
    described = asdict(plugin.plugin) if plugin.plugin is not None else None
    question = json.dumps({"plugin": described, "answer": str(answer)})
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": search_path()}
    command = [sys.executable, "-m", "anydiff.testing.child", question]
    quiet: dict[str, Any] = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
    try:
        code = subprocess.run(command, env=environment, timeout=LIMIT_SECONDS, check=False, **quiet).returncode
    except subprocess.TimeoutExpired:
        return {"problem": f"it did not finish loading within {LIMIT_SECONDS:g} s."}
    with contextlib.suppress(OSError, ValueError):  # the child did not get as far as its answer
        findings: dict[str, Any] = json.loads(Path(answer).read_text("utf-8"))
        return findings
    return {"problem": f"it ended the interpreter when it was loaded (exit code {code})."}


def search_path() -> str:
    """This process's own path, so that the child finds the plugin where this process did."""
    return os.pathsep.join([path for path in sys.path if path])


def _loaded(plugin: Subject) -> dict[str, Any]:
    findings = _findings(plugin)
    if findings["problem"]:
        skip("the plugin does not load, see loading.loads.")
    return findings


def _skip_single_file(plugin: Subject) -> None:
    if plugin.plugin is not None and not plugin.plugin.distribution:
        skip("a single file is loaded only by who names its folder, so it may import what it needs.")


@check("loading.loads")
def loads(plugin: Subject, entry: Entry) -> None:
    """It loads by the loader's rules: known hooks and arguments, names of its own that are free, this core's API."""
    require(not plugin.problem, plugin.problem)
    require(not _findings(plugin)["problem"], _findings(plugin)["problem"])


@check("loading.light", optional=True)
def light(plugin: Subject, entry: Entry) -> None:
    """Discovery imports no torch (or other framework)."""
    heavy = _loaded(plugin)["heavy"]
    _skip_single_file(plugin)
    require(not heavy, f"loading it imports {', '.join(heavy)}; import it inside functions, or register references.")


@check("loading.quick", optional=True)
def quick(plugin: Subject, entry: Entry) -> None:
    """It loads within the time budget."""
    seconds = _loaded(plugin)["seconds"]
    _skip_single_file(plugin)
    require(seconds <= BUDGET_SECONDS, f"loading it takes {seconds:.2f} s, but {BUDGET_SECONDS:g} s are allowed.")


@check("loading.offline", optional=True)
def offline(plugin: Subject, entry: Entry) -> None:
    """Loading it uses no network."""
    used = _loaded(plugin)["network"]
    require(not used, f"loading it uses the network ({', '.join(used)}); fetch only when the user asks.")


@check("loading.twice", optional=True)
def twice(plugin: Subject, entry: Entry) -> None:
    """Registering twice announces the same entries."""
    require(_loaded(plugin)["again"], "its registration hooks announce something else when called a second time.")


@check("loading.leaves-nothing", optional=True)
def leaves_nothing(plugin: Subject, entry: Entry) -> None:
    """Unregistered, it leaves nothing behind: no entry, no changed attribute of anydiff."""
    left = _loaded(plugin)["left"]
    require(not left, f"after it is unregistered there remain: {'; '.join(left[:3])}.")


@check("loading.api", optional=True)
def api(plugin: Subject, entry: Entry) -> None:
    """The plugin API it asks for includes this one and ends before the next major one."""
    from packaging.specifiers import SpecifierSet

    asked = getattr(plugin.module, "ANYDIFF_API", None)
    if plugin.problem or asked is None:
        skip("it states no ANYDIFF_API.")
    following = f"{int(API_VERSION.split('.')[0]) + 1}.0"
    accepts = SpecifierSet(str(asked)).contains(following)
    require(not accepts, f"ANYDIFF_API is {asked!r}, which promises to work with API {following}; add '<{following}'.")


@check("loading.references", optional=True)
def references(plugin: Subject, entry: Entry) -> None:
    """Every reference it registers can be imported."""
    if plugin.problem:
        skip("the plugin does not load, see loading.loads.")
    for each in plugin.entries:
        each.load()
