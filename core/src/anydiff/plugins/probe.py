"""``anydiff plugins doctor``: load each plugin in a process of its own, under a time limit, and say what happened.

The parent (:func:`examine`) cannot be hurt by what the child meets: exceptions, exits, aborts, hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anydiff.plugins import state
from anydiff.plugins.discovery import DISABLED, EXCLUDED, QUARANTINED, Plugin


@dataclass(frozen=True)
class Diagnosis:
    """What loading one plugin alone came to.

    Attributes:
        name: of the plugin.
        status: as discovery tells it (``enabled``, ``disabled``, ...).
        works: it loads and registers.
        seconds: import and registration, without the interpreter's start.
        imports_torch: loading it imported torch, which slows every command down.
        provides: kind -> names.
        problem: one sentence with the fix, or ``""``.
    """

    name: str
    status: str
    works: bool
    seconds: float = 0.0
    imports_torch: bool = False
    provides: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to repair: it works, or the user does not want it."""
        return (self.works and self.status != QUARANTINED) or self.status in (DISABLED, EXCLUDED)


def examine(plugins: Sequence[Plugin], limit: float = 30.0, references: bool = False) -> list[Diagnosis]:
    """Load each plugin in a process of its own and return the diagnoses in the same order.

    Args:
        plugins: as found by :func:`anydiff.plugins.discovery.discover`, switched off or not.
        limit: seconds that each may take.
        references: also import everything that they register.
    """
    with ThreadPoolExecutor(max_workers=max(1, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda plugin: _examine_one(plugin, limit, references), plugins))


def _examine_one(plugin: Plugin, limit: float, references: bool) -> Diagnosis:
    if not plugin.sound:
        return Diagnosis(plugin.name, plugin.status, False, problem=plugin.problem)
    with tempfile.TemporaryDirectory(prefix="anydiff-doctor-", ignore_cleanup_errors=True) as folder:
        answer = Path(folder) / "answer.json"
        question = {"plugin": asdict(plugin), "answer": str(answer), "references": references, "path": told_path()}
        code: int | None = None
        with child("load_one", question) as process, contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(limit)
        result: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):  # the child did not get as far as its answer
            result = json.loads(answer.read_text("utf-8"))
    if result:
        return _with_advice(plugin, Diagnosis(plugin.name, plugin.status, **result))
    off = f"run `anydiff plugins disable {plugin.name}`, or update it"
    if code is None:
        problem = f"{plugin.label} did not finish loading within {limit:g} s; {off}."
    else:
        problem = f"{plugin.label} ended the interpreter when it was loaded ({ending(code)}); {off}."
    if plugin.status != QUARANTINED:  # that it is, and why, is to stay known
        state.remember(plugin.name, {"version": plugin.version, "problem": problem})
    return Diagnosis(plugin.name, plugin.status, False, problem=problem)


def _with_advice(plugin: Plugin, diagnosis: Diagnosis) -> Diagnosis:
    if diagnosis.works and plugin.status in (DISABLED, EXCLUDED, QUARANTINED):
        advice = f"{plugin.label} is {plugin.status} but loads; turn it on with `anydiff plugins enable {plugin.name}`."
        if plugin.status == EXCLUDED:
            advice = plugin.problem
        return Diagnosis(**{**asdict(diagnosis), "problem": advice})
    return diagnosis


@contextlib.contextmanager
def child(body: str, question: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a function of :mod:`anydiff.plugins.child`, in a group that does not outlive the block.

    Args:
        body: its name.
        question: plain data, its one argument as JSON.
    """
    command = [sys.executable, "-P", "-c", f"from anydiff.plugins.child import {body}; {body}()", json.dumps(question)]
    quiet: dict[str, Any] = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
        yield process
    finally:
        with contextlib.suppress(OSError):  # already gone
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def told_path() -> list[str]:
    """This process's own search path, so that a child finds a plugin where this process would."""
    return list(sys.path)


def ending(code: int) -> str:
    """How a process ended, from its exit code: ``signal SIGABRT``, ``exit code 3``."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
