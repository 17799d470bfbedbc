"""Exact answers that the proofs compare with: closed forms, references by another method, moments through a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, FunctionDenoiser, GaussianMixtureOracle, GaussianOracle
from anydiff.paths import EDM, VE, Flow, GaussianPath, SubVP, VPCosine, VPLinear, VPLogSNR
from anydiff.registry import registry
from anydiff.solvers.plan import Combine, Evaluate, Noise, Plan
from anydiff.states import UNCONDITIONAL, Conditioning


def log_snr_line(t: Tensor) -> Tensor:
    """A log-SNR for VPLogSNR: from 6.5 at t = 0 to -5.5 at t = 1, not a straight line."""
    return 6.5 - 10 * t - 2 * t**2


PATHS: dict[str, GaussianPath] = {
    "vp-linear": VPLinear(),
    "vp-cosine": VPCosine(),
    "vp-log-snr": VPLogSNR(log_snr_line),
    "sub-vp": SubVP(),
    "ve": VE(),
    "edm": EDM(),
    "flow": Flow(),
}

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
VARIANCE = torch.tensor([0.25, 0.04], dtype=torch.float64)
CENTRES = torch.tensor([[-1.0, 0.0], [0.7, 0.8], [0.6, -0.9]], dtype=torch.float64)


def uneven(path: GaussianPath, rng: np.random.Generator, size: int) -> Denoiser:
    """A random mixture whose components have a spread of their own in every direction."""
    count = int(rng.integers(3, 9))
    means = torch.from_numpy(rng.uniform(0.3, 0.9) * rng.standard_normal((count, size)))
    spread = rng.uniform(0.08, 0.4) * np.exp(0.5 * rng.standard_normal((count, size)))
    variances = torch.from_numpy(spread**2)
    weights = torch.from_numpy(rng.dirichlet(np.full(count, 3.0)))

    def data(x: Tensor, t: float) -> Tensor:
        alpha, sigma = path.alpha(t), path.sigma(t)
        total = alpha**2 * variances + sigma**2
        off = (x[:, None] - alpha * means).square() / total
        shares = torch.softmax(weights.log() - (off + total.log()).sum(2) / 2, dim=1)
        gain = alpha * variances / total
        return shares @ (means * (1 - gain * alpha)) + x * (shares @ gain)

    return FunctionDenoiser(data, path)


def gaussian(path: GaussianPath) -> GaussianOracle:
    """N(MEAN, diag(VARIANCE)) on ``path``."""
    return GaussianOracle(path, MEAN, VARIANCE)


def mixture(path: GaussianPath, std: float = 0.3) -> GaussianMixtureOracle:
    """Three Gaussians in the plane, weights 1, 2, 3 (target W2 of the specification sheets)."""
    return GaussianMixtureOracle(path, CENTRES, std, torch.tensor([1.0, 2.0, 3.0]))


def starts(path: GaussianPath, count: int = 16, radius: tuple[float, float] = (0.4, 1.6)) -> Tensor:
    """Fixed states at ``t_start`` spread over angles and radii, away from the basins' borders."""
    angle = torch.linspace(0.15, 2 * math.pi - 0.25, count, dtype=torch.float64)
    length = torch.linspace(*radius, count, dtype=torch.float64) * path.prior_std
    return torch.stack([length * angle.cos(), length * angle.sin()], 1)


def gaussian_flow(path: GaussianPath, x: Tensor, s: float, t: float) -> Tensor:
    """The exact probability-flow ODE of :func:`gaussian` from time s to t (t = 0 on a path with σ_0 > 0: κ -> 0)."""
    first = path.alpha(s) ** 2 * VARIANCE + path.sigma(s) ** 2
    last = path.alpha(t) ** 2 * VARIANCE + path.sigma(t) ** 2
    return path.alpha(t) * MEAN + (last / first).sqrt() * (x - path.alpha(s) * MEAN)


def gaussian_clean(path: GaussianPath, x: Tensor, s: float) -> Tensor:
    """The clean sample that the exact ODE of :func:`gaussian` reaches from x at time s."""
    first = path.alpha(s) ** 2 * VARIANCE + path.sigma(s) ** 2
    return MEAN + (VARIANCE / first).sqrt() * (x - path.alpha(s) * MEAN)


def reference(path: GaussianPath, denoiser: Denoiser, x: Tensor, end: float, steps: int = 1500) -> Tensor:
    """x at time ``end`` by the classical Runge-Kutta method, none of whose code is the package's.

    In z = x/σ and λ: dz/dλ = e^λ D; where α = 0 at the start, in time: dx/dt = (α' - α σ'/σ) D + (σ'/σ) x.
    """
    if path.alpha(path.t_start) > 0:
        first, last = path.log_snr(path.t_start), path.log_snr(end)
        grid = np.linspace(first, last, 2 * steps + 1)
        times = [path.time(float(v)) for v in grid]
        h = (last - first) / steps

        def slope(z: Tensor, index: int) -> Tensor:
            t = times[index]
            return math.exp(grid[index]) * denoiser(z * path.sigma(t), t)

        z = x / path.sigma(path.t_start)
        return _runge_kutta(slope, z, h, steps) * path.sigma(end)
    grid = np.linspace(path.t_start, end, 2 * steps + 1)

    def velocity(y: Tensor, index: int) -> Tensor:
        t = float(grid[index])
        return (y - denoiser(y, t)) / t  # the flow path alone

    assert isinstance(path, Flow)
    return _runge_kutta(velocity, x, (end - path.t_start) / steps, steps)


def _runge_kutta(slope, z: Tensor, h: float, steps: int) -> Tensor:
    for i in range(steps):
        k1 = slope(z, 2 * i)
        k2 = slope(z + h / 2 * k1, 2 * i + 1)
        k3 = slope(z + h / 2 * k2, 2 * i + 1)
        k4 = slope(z + h * k3, 2 * i + 2)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return z


class Counting(Denoiser):
    """Another denoiser, with every call recorded: (time, rows)."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.path = inner, inner.path
        self.native_kind, self.sigma_data = inner.native_kind, inner.sigma_data
        self.calls: list[tuple[float, int]] = []

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        self.calls.append((float(t) if not isinstance(t, Tensor) or t.ndim == 0 else math.nan, x.shape[0]))
        return self.inner.native(x, t, condition)


def moments(plan: Plan, path: GaussianPath, mean: float, variance: float, start: tuple[float, float] | None = None):
    """Exact mean and variance of the plan's output for x_0 ~ N(mean, variance), no sampling.

    With a Gaussian target every row is affine, so each register is [constant, weight of the prior's draw, weight of
    draw 1, ...], and the rows act on these vectors. ``start`` is the (mean, std) of the state at the first node, by
    default the path's prior.
    """
    rows = affine(plan, path, mean, variance, start)
    return float(rows[0]), float((rows[1:] ** 2).sum())


def affine(plan: Plan, path: GaussianPath, mean: float, variance: float, start: tuple[float, float] | None = None):
    """The output of ``plan`` as [constant, weight of the prior's draw, weights of draws 1, 2, ...]."""
    width = 2 + plan.draws
    first = np.zeros(width)
    first[0], first[1] = start if start is not None else (0.0, path.prior_std)
    registers = {Plan.START: first}
    for instruction in plan.instructions:
        if isinstance(instruction, Noise):
            registers[instruction.out] = np.eye(width)[1 + instruction.draw]
        elif isinstance(instruction, Combine):
            registers[instruction.out] = sum(c * registers[r] for r, c in instruction.terms)
        elif isinstance(instruction, Evaluate):
            state = registers[instruction.state]
            for out, kind in zip(instruction.outs, instruction.kinds, strict=True):
                registers[out] = _predict(kind, instruction.t, state, path, mean, variance)
        else:
            raise AssertionError(f"{instruction} is not affine")
    return registers[plan.result]


def _predict(kind: str, t: float, x, path: GaussianPath, mean: float, variance: float):
    alpha, sigma = path.alpha(t), path.sigma(t)
    constant = np.zeros_like(x)
    constant[0] = mean
    data = constant + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * constant)
    if kind in ("data", "residual"):
        return data if kind == "data" else -data
    noise = (x - alpha * data) / sigma
    flow = path.d_alpha(t) * data + path.d_sigma(t) * noise
    return {"noise": noise, "score": -noise / sigma, "velocity": alpha * noise - sigma * data, "flow": flow}[kind]


def solver_entries(stochastic: bool | None = None):
    """The registered solvers of the core, or those that are (not) stochastic by default."""
    entries = [entry for entry in registry().entries("solvers") if entry.metadata.get("states") == "numbers"]
    assert len(entries) >= 6
    return [e for e in entries if stochastic is None or bool(e.metadata.get("stochastic")) == stochastic]


def root_mean_square(error: Tensor) -> float:
    """Root of the mean square of all entries."""
    return float(error.square().mean().sqrt())


def slopes(counts: Sequence[int], errors: Sequence[float]) -> float:
    """Least-squares slope of -log(error) over log(steps): the measured order."""
    x, y = np.log(np.asarray(counts, float)), np.log(np.asarray(errors))
    return float(-np.polyfit(x, y, 1)[0])
