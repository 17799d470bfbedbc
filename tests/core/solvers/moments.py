"""Exact mean and variance of what a stochastic plan makes, for one-dimensional Gaussian data: no sampling at all.

For x_0 ~ N(m, c²) the data prediction is affine in the state, so every register is an affine form of the start and of
the draws. Its coefficients are carried through the plan's rows; the variance is their sum of squares.
"""

from __future__ import annotations

import numpy as np

from anydiff.paths.base import GaussianPath
from anydiff.solvers import Plan
from anydiff.solvers.plan import Combine, Evaluate, Noise


def forms(plan: Plan, path: GaussianPath, mean: float, std: float, start: tuple[float, float]) -> dict[str, np.ndarray]:
    """Every register as a vector over (1, start, draw 1, draw 2, ...); ``start`` is the mean and std of x_T."""
    size = 2 + plan.draws
    unit = np.eye(size)
    registers = {"x0": start[0] * unit[0] + start[1] * unit[1]}
    for i in plan.instructions:
        if isinstance(i, Noise):
            registers[i.out] = unit[1 + i.draw]
        elif isinstance(i, Combine):
            registers[i.out] = sum(c * registers[r] for r, c in i.terms)
        elif isinstance(i, Evaluate):
            alpha, sigma = path.alpha(i.t), path.sigma(i.t)
            gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
            x = registers[i.state]
            data = gain * x + (mean - gain * alpha * mean) * unit[0]
            registers[i.out] = data if i.kind == "data" else (x - alpha * data) / sigma
    return registers


def mean_and_variance(plan: Plan, path: GaussianPath, mean: float, std: float) -> tuple[float, float]:
    """Moments of the plan's result, started from the exact law of x_T."""
    t = plan.nodes[0]
    start = path.alpha(t) * mean, float(np.hypot(path.alpha(t) * std, path.sigma(t)))
    result = forms(plan, path, mean, std, start)[plan.result]
    return float(result[0]), float(np.sum(result[1:] ** 2))
