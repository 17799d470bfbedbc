"""Runs every case on every target and budget, and appends one JSON line each, so that a stopped run goes on."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from anydiff_benchmarks.peers import ours, peer_azula, peer_diffusers, peer_k_diffusion
from anydiff_benchmarks.peers.cases import Case, Counted
from anydiff_benchmarks.peers.targets import NAMES, target

BUDGETS = (5, 6, 8, 10, 15, 20)
PEERS: tuple[ModuleType, ...] = (peer_diffusers, peer_k_diffusion, peer_azula)


def installed() -> dict[str, str]:
    """Name and version of every peer that can be imported."""
    found = {}
    for module in PEERS:
        try:
            found[module.DISTRIBUTION] = module.version()
        except ImportError:
            continue
    return found


def all_cases(libraries: Iterable[str]) -> Iterator[Case]:
    """The cases of anydiff and of the named peers."""
    yield from ours.cases()
    for module in PEERS:
        if module.DISTRIBUTION in libraries:
            yield from module.cases()


def measure(case: Case, target_name: str, nfe: int) -> dict[str, Any]:
    """One row: root mean square and median error of the endpoint over the shared starts, and the calls made."""
    chosen = target(target_name)
    denoise = Counted(chosen)
    row: dict[str, Any] = {
        "target": target_name, "nfe": nfe, "library": case.library, "solver": case.solver, "grid": case.grid,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            endpoint = case.run(denoise, nfe)
        except Exception as crash:  # a peer's crash is a result, whatever its kind
            if case.library == "anydiff":
                raise
            return {**row, "failed": f"{type(crash).__name__}: {crash}"[:200]}
    error = (endpoint - chosen.reference).square().mean(dim=1).sqrt()
    rms = float(error.square().mean().sqrt())
    if not math.isfinite(rms):
        return {**row, "calls": denoise.calls, "failed": "not finite"}
    return {**row, "calls": denoise.calls, "rmse": rms, "median": float(error.median())}


def run_missing(path: Path, targets: Iterable[str] = NAMES, budgets: Iterable[int] = BUDGETS) -> None:
    """Append the missing rows to the JSON lines file ``path``."""
    known = {_key(row) for row in read(path)} if path.exists() else set()
    versions = installed()
    with path.open("a", encoding="utf-8") as file, torch.no_grad():
        for name in targets:
            for case in all_cases(versions):
                for nfe in budgets:
                    row = {"target": name, "nfe": nfe, "library": case.library, "solver": case.solver,
                           "grid": case.grid}  # fmt: skip
                    if _key(row) not in known:
                        file.write(json.dumps(measure(case, name, nfe)) + "\n")
            file.flush()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("target", "nfe", "library", "solver", "grid"))
