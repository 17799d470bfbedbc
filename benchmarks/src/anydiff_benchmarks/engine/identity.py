"""What a result depends on, as hashes: the address of a row in the store, and the provenance that stands beside it."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anydiff
from anydiff.tasks import canonical

WITHOUT_INFLUENCE = (
    "advice",
    "claims",
    "peers",
    "speed",
    "suites",
    "engine/advice.py",
    "engine/command.py",
    "engine/progress.py",
    "engine/report",
)
"""What the rest of ``anydiff_benchmarks`` does not import (a test reads the imports), so no number passes through."""


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, old, new) of every part that differs; within ``code`` and ``libraries`` each distribution is a part."""
    found: list[tuple[str, Any, Any]] = []
    before, now = json.loads(canonical(before)), json.loads(canonical(now))
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if name in ("code", "libraries") and isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [(f"{name} of {inner}", a, b) for inner, a, b in changes(old, new)]
        elif old != new:
            found.append((name, old, new))
    return found


def texts(value: Any) -> list[str]:
    """Every text in plain data, the keys of its tables left out."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in texts(inner)]
    return [text for inner in value for text in texts(inner)] if isinstance(value, list | tuple) else []


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything named anydiff, of torch, numpy and Python."""
    found = {"python": platform.python_version()}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name in ("torch", "numpy") or name == "anydiff" or name.startswith("anydiff-"):
            found[name] = distribution.version
    return dict(sorted(found.items()))


@functools.cache
def commit() -> str:
    """The commit this core was read from, with ``+changes`` if its tree or the engine's was not clean.

    Empty outside a checkout.
    """
    core, engine = Path(anydiff.__file__).parent, Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=core, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else an installed copy inside somebody's repository
        checkout = Path(git("rev-parse", "--show-toplevel"))
        ours = [str(folder) for folder in (core, engine) if folder.resolve().is_relative_to(checkout)]
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", *ours) else "")
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def machine(device: str) -> dict[str, str]:
    """The device in words, and what else a wall clock depends on."""
    import torch

    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    else:
        name = _processor()
    return {
        "device": device,
        "name": name,
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
