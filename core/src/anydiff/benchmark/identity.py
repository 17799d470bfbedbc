"""What a result depends on, as hashes: the address of a row in the store, and the provenance that stands beside it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CODE_WITHOUT_INFLUENCE = ("cli", "benchmark/report", "plugins", "training")
"""Rooms of the core that cannot change a number of a row: a change there keeps stored rows valid."""


def plain(value: Any) -> Any:
    """``value`` as data that every JSON reader understands: tuples as lists, infinities and NaN as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def canonical(value: Any) -> str:
    """``value`` as JSON with sorted keys: equal data, equal text."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def source_hash(folder: Path, leave_out: tuple[str, ...] = ()) -> str:
    """sha256 (hex) over the Python sources below ``folder``, by relative name and content."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if not any(name.startswith(f"{room}/") for room in leave_out):
            found.update(f"{name}\0".encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


@functools.cache
def core_hash() -> str:
    """sha256 of the core's sources, without the rooms that cannot change a number."""
    return source_hash(Path(__file__).parents[1], CODE_WITHOUT_INFLUENCE)


@functools.cache
def package_hash(reference: str) -> str:
    """sha256 of the sources of the package (or single file) that ``"package.module:attribute"`` lives in."""
    top = reference.partition(":")[0].partition(".")[0]
    loaded = sys.modules.get(top)
    spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(top)
    if spec is None or not spec.origin:
        return "unknown"
    origin = Path(spec.origin)
    if spec.submodule_search_locations:
        return source_hash(origin.parent)
    return hashlib.sha256(origin.read_bytes()).hexdigest()


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
    """The commit this core was read from, with ``+changes`` if its tree was not clean; empty outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else an installed copy inside somebody's repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(here.parent)) else "")
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
