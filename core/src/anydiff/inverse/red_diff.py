"""RED-Diff: the state that the measurement and the denoiser agree on, by optimisation. A point, not a sample.

Mardani, Song, Kautz, Vahdat, "A variational perspective on solving inverse problems with diffusion models" (ICLR 2024,
arXiv:2305.04391). From μ = A⁺ y (with noise s from Aᵀ(A Aᵀ + s²/σ_d² I)⁻¹ y), at falling noise levels: x_t = α μ + σ ε,
one network call without gradient, and one step of Adam on

    v |y - A(μ)|²/(2 dim y) + λ w_t <ê - ε, μ>/dim x,    ê the predicted noise (held fixed), w_t of r = σ/α.

Its members differ by the noise of the optimisation alone: their spread says nothing of what is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError, natural_number, real_number
from anydiff.inverse.descent import Adam, descend
from anydiff.inverse.method import InverseMethod, Solving
from anydiff.inverse.noise import Gaussian
from anydiff.inverse.operators.base import LinearOperator
from anydiff.inverse.problem import Problem, without_problem
from anydiff.inverse.proximal import gain
from anydiff.paths.grids import time_grid
from anydiff.paths.product import ProductPath
from anydiff.samplers import Sampler
from anydiff.samplers.plan import DEFAULT_NFE
from anydiff.samplers.sampler import Chunk

WEIGHTS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda r: r,
        "sqrt": math.sqrt,
        "square": lambda r: r * r,
        "log": math.log1p,
        "clip": lambda r: min(r, 1.0),
        "power-2/3": lambda r: r ** (2 / 3),
        "const": lambda r: 1.0,
    }
)
"""w_t as a function of r = σ/α."""


@dataclass(frozen=True)
class RedDiff(InverseMethod):
    """RED-Diff; see the module.

    Args:
        strength: λ, of the denoiser. Where nothing was measured it counts for nothing, since Adam forgets the scale.
        weight: w_t, a name of :data:`WEIGHTS`.
        rate: Adam's step, in units of the denoiser's ``sigma_data``.
        fidelity: v, of the measurement.
    """

    kind = "optimiser"
    estimate = "point"
    calls = "1 call"
    strength: float = 0.25
    weight: str = "linear"
    rate: float = 0.1
    fidelity: float = 1.0

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS:
            raise UnknownNameError("weight of RED-Diff", self.weight, WEIGHTS)
        for name in ("strength", "rate", "fidelity"):
            real_number(name, getattr(self, name), 0)

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse paths of several schedules or of known sources."""
        path = denoiser.gaussian_path
        if isinstance(path, ProductPath) or path.known:
            raise AnydiffError(
                f"the method 'red-diff' needs one schedule from noise to data, which {path!r} is not; use 'pigdm'."
            )

    def sampler(self, problem: Problem, denoiser: Denoiser, solving: Solving) -> Sampler:
        """The optimiser.

        Raises:
            AnydiffError: a solver or an end was asked for.
        """
        if solving.solver is not None or solving.end is not None or solving.options:
            raise AnydiffError(
                "the method 'red-diff' is an optimiser, which no solver and no end go with; leave them out, or use a "
                "method that is a guidance ('mmps')."
            )
        nfe = natural_number("nfe", DEFAULT_NFE if solving.nfe is None else solving.nfe)
        times = time_grid(denoiser.path, nfe, "time" if solving.grid is None else solving.grid)[1:]
        return _Optimiser(self, problem, times)


class _Optimiser(Sampler):
    """RED-Diff at given times."""

    def __init__(self, method: RedDiff, problem: Problem, times: Sequence[float]) -> None:
        self.method, self.problem, self.times = method, problem, times
        self.nfe = len(times)

    def draw(self, chunk: Chunk) -> Tensor:
        """μ after the last step."""
        problem, told = self.problem.of(chunk.condition), without_problem(chunk.condition)
        first, path = chunk.first, chunk.path
        weigh, calls = WEIGHTS[self.method.weight], 0

        def gradient(mu: Tensor, noise: Tensor, t: float) -> Tensor:
            nonlocal calls
            alpha, sigma = path.alpha(t), path.sigma(t)
            state = alpha * mu + sigma * noise
            with torch.no_grad():
                predicted = chunk.denoiser.predict(state, t, "noise", told)
            calls += 1
            chunk.tell(calls, t, state, predicted, "noise", self.nfe)
            share = self.method.strength * weigh(sigma / alpha) / mu[0].numel()
            return share * (predicted - noise) + self.method.fidelity * _misfit(problem, mu)

        with torch.inference_mode(False):
            return descend(
                _start(problem, first, chunk.denoiser.sigma_data),
                self.times,
                gradient,
                Adam(self.method.rate * chunk.denoiser.sigma_data),
                lambda number: chunk.noise.draw(chunk.samples, number + 1, first.dtype, first.device),
            )


def _start(problem: Problem, first: Tensor, scale: float) -> Tensor:
    """A⁺ y of each row, or what is nearest to it for noise in the measurement; where the operator is not linear, small
    noise, at which no gradient vanishes by symmetry."""
    operator = problem.operator
    if isinstance(operator, LinearOperator) and isinstance(problem.noise, Gaussian):
        y = problem.measurement.to(first)
        spread = torch.full((1, *[1] * (first.ndim - 1)), scale**2, dtype=first.dtype, device=first.device)
        return (scale**2 * gain(operator, y, spread, problem.variance(first))).expand(first.shape)
    return 0.1 * scale * first


def _misfit(problem: Problem, mu: Tensor) -> Tensor:
    """The gradient by μ of |y - A(μ)|²/(2 dim y), or of -log p(y | μ)/dim y of another law of noise."""
    with torch.enable_grad():
        leaf = mu.detach().requires_grad_()
        y = problem.measurement.to(leaf)
        count = problem.operator.observed(y).flatten(1).sum(1).clamp_min(1)
        if isinstance(problem.noise, Gaussian):
            misfit = problem.residual(leaf).square().flatten(1).sum(1) / 2
        else:
            misfit = -problem.log_likelihood(leaf)
        (found,) = torch.autograd.grad((misfit / count).sum(), leaf)
    return found
