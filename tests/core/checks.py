"""Checks that the proofs run and that the mutation table runs again: each raises AssertionError when it fails."""

from __future__ import annotations

import itertools
import math

import torch
from exact import log_snr_line

from anydiff.paths import GaussianPath, time_grid


def times(path: GaussianPath, count: int = 9) -> list[float]:
    """Times strictly inside the path's range."""
    return [path.t_end + (i + 0.5) / count * (path.t_start - path.t_end) for i in range(count)]


def close(value: float, expected: float, relative: float, what: str = "") -> None:
    """Fail unless ``value`` is ``expected`` within a relative error."""
    assert abs(value - expected) <= relative * max(abs(expected), 1e-300), f"{what}: {value!r}, expected {expected!r}"


def closed_form(path: GaussianPath, t: float) -> tuple[float, float]:
    """(α, σ) written out again, with the plain formulas of the papers."""
    kind = type(path).__name__
    if kind in ("VPLinear", "SubVP"):
        squared = math.exp(-(0.1 * t + 19.9 * t * t / 2))
        return math.sqrt(squared), math.sqrt(1 - squared) if kind == "VPLinear" else 1 - squared
    if kind == "VPCosine":
        alpha = math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
        return alpha, math.sqrt(1 - alpha**2)
    if kind == "VPLogSNR":
        ratio = math.exp(float(log_snr_line(torch.tensor(t, dtype=torch.float64))))
        return ratio / math.sqrt(1 + ratio**2), 1 / math.sqrt(1 + ratio**2)
    if kind == "VE":
        return 1.0, 0.01 * 5000.0**t
    return (1.0, t) if kind == "EDM" else (1 - t, t)


def check_closed_forms(path: GaussianPath) -> None:
    """α, σ and λ at many times."""
    for t in times(path):
        alpha, sigma = closed_form(path, t)
        close(path.alpha(t), alpha, 1e-12, f"alpha({t})")
        close(path.sigma(t), sigma, 1e-9, f"sigma({t})")
        assert abs(path.log_snr(t) - math.log(alpha / sigma)) < 1e-9
    alpha, sigma = closed_form(path, path.t_start)
    close(path.prior_std, sigma, 1e-12, "prior_std")


def difference(f, t: float) -> float:
    """df/dt by the central difference of order 4."""
    h = 1e-3 * t
    return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)


def check_derivatives(path: GaussianPath) -> None:
    """dα/dt and dσ/dt against a central difference of order 4."""
    for t in times(path):
        for name in ("alpha", "sigma"):
            function = getattr(path, name)
            value, expected = getattr(path, f"d_{name}")(t), difference(function, t)
            assert abs(value - expected) <= 1e-8 * max(abs(expected), abs(function(t)) / t), (name, t, value, expected)


def check_inverse_log_snr(path: GaussianPath, t: float) -> None:
    """time(λ(t)) = t to 1e-10 relative."""
    # where σ_0 > 0 the log-SNR is finite at t = 0, and cannot tell times far below 1 apart
    scale = t if path.log_snr(0.0) == math.inf else max(t, 0.1)
    assert abs(path.time(path.log_snr(t)) - t) <= 1e-10 * scale, f"time(log_snr({t!r})) = {path.time(path.log_snr(t))}"


def check_stochastic_equation(path: GaussianPath) -> None:
    """dx = f x dt + g dw keeps the moments: α' = f α and (σ²)' = 2 f σ² + g², g² >= 0; g² = -2 σ² dλ/dt."""
    for t in times(path):
        f, squared = path.drift(t), path.squared_diffusion(t)
        slope = difference(path.alpha, t)
        assert abs(slope - f * path.alpha(t)) < 1e-7 * max(abs(slope), 1e-3)
        variance = difference(lambda s: path.sigma(s) ** 2, t)
        close(2 * f * path.sigma(t) ** 2 + squared, variance, 1e-7, "variance")
        close(squared, -2 * path.sigma(t) ** 2 * difference(path.log_snr, t), 1e-7, "g²")
        assert squared > 0
    if type(path).__name__ == "VPLinear":
        close(path.drift(0.3), -(0.1 + 19.9 * 0.3) / 2, 1e-12, "f of VP")
        close(path.squared_diffusion(0.3), 0.1 + 19.9 * 0.3, 1e-11, "g² of VP")
    if type(path).__name__ == "SubVP":
        shrink = 1 - math.exp(-2 * (0.1 * 0.3 + 19.9 * 0.045))
        close(path.squared_diffusion(0.3), (0.1 + 19.9 * 0.3) * shrink, 1e-11, "g² of sub-VP")


def check_grid(path: GaussianPath, steps: int, grid: str) -> None:
    """steps + 1 finite, strictly decreasing nodes with both ends exact."""
    nodes = time_grid(path, steps, grid)
    assert len(nodes) == steps + 1
    assert (nodes[0], nodes[-1]) == (path.t_start, path.t_end)
    assert all(math.isfinite(t) and type(t) is float for t in nodes)
    assert all(s > t for s, t in itertools.pairwise(nodes)), f"{grid} on {path}: {nodes}"
