"""What the claims of the solver papers share: exact targets, the end that an exact solver reaches, and distances.

The mixtures are those of the comparison with other libraries (G2, W2, G16, G64) on the VP-linear path to t = 0.001.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, GaussianMixtureOracle
from anydiff.paths import time_grid
from anydiff.registry import registry
from anydiff.solvers import ExponentialAdams, Solver, build_plan, compile_plan, execute
from anydiff_benchmarks.peers.targets import PATH, target


def starts(name: str, seed: int, count: int) -> Tensor:
    """States at t = 1 for the target of that name, float64 ``[count, d]``."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(count, target(name).dimension, dtype=torch.float64, generator=generator)


def exact_end(denoiser: Denoiser, start: Tensor, steps: int = 400) -> Tensor:
    """Where the probability-flow ODE takes ``start`` at the path's last node: Adams of order 4, errs by some 1e-7."""
    plan = build_plan(ExponentialAdams(order=4), PATH, time_grid(PATH, steps, "log-snr"), "stop")
    return execute(plan, denoiser, start)


@functools.cache
def case(name: str, seed: int, count: int) -> tuple[GaussianMixtureOracle, Tensor, Tensor]:
    """The exact denoiser, starts and their exact ends."""
    oracle, start = target(name).oracle, starts(name, seed, count)
    return oracle, start, exact_end(oracle, start)


def end_of(solver: str | Solver, denoiser: Denoiser, start: Tensor, nfe: int, grid: str, **options: Any) -> Tensor:
    """The state at the last node by ``nfe`` calls of a solver."""
    chosen = registry().build("solvers", solver, **options) if isinstance(solver, str) else solver
    return execute(compile_plan(chosen, PATH, nfe, grid, "stop"), denoiser, start)


def root_mean_square(error: Tensor) -> float:
    """Root of the mean square of all entries."""
    return float(error.square().mean().sqrt())


def distance(name: str, seed: int, count: int, solver: str | Solver, nfe: int, grid: str, **options: Any) -> float:
    """Root mean square distance of a solver's end from the exact one."""
    oracle, start, end = case(name, seed, count)
    return root_mean_square(end_of(solver, oracle, start, nfe, grid, **options) - end)


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| of two samples ``[n, d]``, all pairs counted (V-statistic)."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def mean(rows: list[dict[str, float]], name: str) -> float:
    """Mean of a number over the seeds."""
    return sum(row[name] for row in rows) / len(rows)
