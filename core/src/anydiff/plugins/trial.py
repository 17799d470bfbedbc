"""The trial of plugins that are new or changed: loaded in a process of their own before this one loads them.

An import or a registration that ends the interpreter or never returns cannot be caught in the process it happens in.
So a child (:func:`anydiff.plugins.child.load_all`) loads all of them in the order of the loader and notes which one it
is at; the parent (:func:`try_new`) quarantines the one at which the child dies or stays longer than :func:`limit`, and
tries the others again without it. The outcome is remembered with a fingerprint of the plugin's files, so that an
ordinary start, with nothing new, starts no process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from anydiff.errors import AnydiffError
from anydiff.plugins import state
from anydiff.plugins.discovery import QUARANTINED, Plugin, fingerprint
from anydiff.plugins.probe import child, ending, told_path

SECONDS = 30.0
VARIABLE = "ANYDIFF_PLUGIN_SECONDS"
SLOW_SECONDS = 5.0


def limit() -> float:
    """Seconds that one plugin may take to load: ``ANYDIFF_PLUGIN_SECONDS``, else 30.

    Raises:
        AnydiffError: the variable holds no positive number.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise AnydiffError(
            f"{VARIABLE} is {text!r}, but must be a positive number of seconds; unset it for {SECONDS:g}."
        )
    return seconds


def try_new(plugins: Sequence[Plugin]) -> list[Plugin]:
    """``plugins`` with those that cannot be loaded safely marked as quarantined; those known to be safe are not tried.

    Args:
        plugins: that may be loaded, in the order of the loader.
    """
    new = [plugin for plugin in plugins if not state.tried(plugin.name, plugin.version, fingerprint(plugin))]
    bad: dict[str, Plugin] = {}
    while new:
        culprit, problem = _try(new, limit())
        if culprit is None:
            break
        outcome = {"version": culprit.version, "fingerprint": fingerprint(culprit), "problem": problem}
        state.remember(culprit.name, {**outcome, "quarantined": True})
        bad[culprit.name] = replace(culprit, status=QUARANTINED, problem=problem)
        new = [plugin for plugin in new if plugin.name not in bad]
    return [bad.get(plugin.name, plugin) for plugin in plugins]


def _try(plugins: Sequence[Plugin], seconds: float) -> tuple[Plugin | None, str]:
    """The plugin at which a process that loads them all dies or stays, with the sentence; (None, "") if none."""
    with tempfile.TemporaryDirectory(prefix="anydiff-trial-", ignore_cleanup_errors=True) as folder:
        at, done = Path(folder) / "at", Path(folder) / "done"
        question = {"plugins": [asdict(plugin) for plugin in plugins], "at": str(at), "done": str(done)}
        with child("load_all", {**question, "path": told_path()}) as process:
            code = _watch(process, at, plugins, seconds)
        if done.exists():
            return None, ""
        name, why = _read(at), _read(at.with_name("why"))
    culprit = next((plugin for plugin in plugins if plugin.name == name), None)
    if culprit is None:  # it did not come to the first plugin: no memory, no processes, and no fault of theirs
        return None, ""
    again = f"update it, or try it again with `anydiff plugins enable {name}` (or `anydiff plugins disable {name}`)"
    if why:
        what = why
    elif code is None:
        what = f"did not finish loading within {seconds:g} s ({VARIABLE} gives slow ones longer)"
    else:
        what = f"ended the interpreter when it was loaded ({ending(code)})"
    return culprit, f"{culprit.label} {what} and is quarantined; {again}."


def _watch(process: Popen[bytes], at: Path, plugins: Sequence[Plugin], seconds: float) -> int | None:
    """The exit code; None once the process stays longer than ``seconds`` at one plugin."""
    seen, since, told = "", time.monotonic(), False
    while True:
        with contextlib.suppress(TimeoutExpired):
            return process.wait(0.05)
        name, now = _read(at), time.monotonic()
        if name != seen:
            seen, since, told = name, now, False
        elif now - since > seconds:
            return None
        elif now - since > SLOW_SECONDS and not told and seen:
            told = True
            label = next((plugin.label for plugin in plugins if plugin.name == seen), seen)
            print(
                f"anydiff: still trying {label} after {SLOW_SECONDS:.0f} s; at {seconds:g} s it is quarantined.",
                file=sys.stderr,
            )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
