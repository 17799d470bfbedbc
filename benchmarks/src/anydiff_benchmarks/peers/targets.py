"""The exact targets: Gaussian mixtures in 2, 16, 64 and 784 dimensions on the VP-linear path, with reference endpoints.

In y = x/α and κ = σ/α every Gaussian path has the same probability-flow ODE dy/dκ = (y - D)/κ. So a library may work on
x or on y and still aim at the same endpoint y(0), if it starts from the same noise at the same κ.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import UnknownNameError
from anydiff.paths import VPLinear
from anydiff.solvers import ExponentialAdams, build_plan, execute

PATH = VPLinear()
SEED = 20240


def sigma_max() -> float:
    """κ at the start, t = 1: about 152."""
    return PATH.sigma(PATH.t_start) / PATH.alpha(PATH.t_start)


def sigma_min() -> float:
    """κ at the last node, t = 0.001: about 0.0105."""
    return PATH.sigma(PATH.t_end) / PATH.alpha(PATH.t_end)


@dataclass(frozen=True)
class Target:
    """A mixture with its exact denoiser, the shared start noise and the endpoint that an exact solver reaches.

    Attributes:
        name: name in the tables.
        dimension: d.
        oracle: the exact D on :data:`PATH`.
        start: x at t = 1, standard normal ``[B, d]``, float64.
    """

    name: str
    dimension: int
    oracle: GaussianMixtureOracle
    start: Tensor

    def denoise(self, y: Tensor, kappa: float) -> Tensor:
        """D at the unscaled state y = x/α and noise level κ, for any κ >= 0 (α = 1/sqrt(1 + κ²) on a VP path)."""
        t = PATH.time(-math.log(kappa))
        return self.oracle(y * PATH.alpha(t), t)

    def unscaled_start(self) -> Tensor:
        """y = x/α at t = 1."""
        return self.start / PATH.alpha(PATH.t_start)

    @functools.cached_property
    def reference(self) -> Tensor:
        """y(0) by the exponential Adams method of order 4 with 1500 steps down to κ = 2e-4, and the half step."""
        return fine_endpoint(self)


def fine_endpoint(target: Target, steps: int = 1500) -> Tensor:
    """The endpoint on a log-SNR grid of ``steps`` steps that goes on below the path's own last node."""
    lowest = PATH.time(8.5)
    lines = np.linspace(PATH.log_snr(PATH.t_start), 8.5, steps + 1)[1:-1]
    grid = [PATH.t_start, *(PATH.time(float(v)) for v in lines), lowest]
    return execute(build_plan(ExponentialAdams(order=4), PATH, grid), target.oracle, target.start)


def scipy_endpoint(target: Target, rows: int, tolerance: float = 1e-11) -> Tensor:
    """The endpoint of the first ``rows`` starts by SciPy's DOP853 in z = x/σ over λ: another method, other code."""
    from scipy.integrate import solve_ivp

    shape = (rows, target.dimension)

    def slope(log_snr: float, z: np.ndarray) -> np.ndarray:
        t = PATH.time(float(log_snr))
        data = target.oracle(torch.from_numpy(z.reshape(shape)) * PATH.sigma(t), t)
        change: np.ndarray = np.exp(log_snr) * data.numpy().ravel()
        return change

    first, last = PATH.log_snr(PATH.t_start), 8.5
    z = (target.start[:rows] / PATH.sigma(PATH.t_start)).numpy().ravel()
    solved = solve_ivp(slope, (first, last), z, method="DOP853", rtol=tolerance, atol=tolerance)
    y = torch.from_numpy(solved.y[:, -1].reshape(shape)) * math.exp(-last)
    kappa = math.exp(-last)
    return y + (target.denoise(y, kappa) - y) / 2  # the score has a limit at κ = 0: half of the way to D


def _clusters(dimension: int, std: float, seed: int) -> tuple[Tensor, float, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    means = 0.5 * torch.randn(10, dimension, dtype=torch.float64, generator=generator)
    weights = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(10, 3.0)))
    return means, std, weights


def _ring() -> tuple[Tensor, float, Tensor]:
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], 1), 0.1, torch.arange(1, 9, dtype=torch.float64)


def _triangle() -> tuple[Tensor, float, Tensor]:
    means = torch.tensor([[-1.0, 0.0], [0.7, 0.8], [0.6, -0.9]], dtype=torch.float64)
    return means, 0.3, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


#: name -> (mixture, number of starts)
_TARGETS: dict[str, tuple[Callable[[], tuple[Tensor, float, Tensor]], int]] = {
    "G2": (_ring, 256),
    "W2": (_triangle, 256),
    "G16": (lambda: _clusters(16, 0.15, 16), 128),
    "G64": (lambda: _clusters(64, 0.3, 64), 128),
    "G784": (lambda: _clusters(784, 0.3, 784), 32),
}
NAMES = tuple(_TARGETS)


@functools.cache
def target(name: str) -> Target:
    """The target of that name: G2 and W2 in the plane, G16, G64 and G784 with ten components each.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in _TARGETS:
        raise UnknownNameError("target", name, NAMES)
    make, count = _TARGETS[name]
    means, std, weights = make()
    generator = torch.Generator().manual_seed(SEED)
    start = torch.randn(count, means.shape[1], dtype=torch.float64, generator=generator)
    return Target(name, means.shape[1], GaussianMixtureOracle(PATH, means, std, weights), start)
