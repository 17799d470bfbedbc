"""DDIM(η) and DDPM ancestral sampling.

Song, Meng, Ermon, "Denoising diffusion implicit models", ICLR 2021; Ho, Jain, Abbeel, "Denoising diffusion
probabilistic models", NeurIPS 2020. From s to t with h = λ_t - λ_s > 0:

    c = η σ_t sqrt(1 - e^{-2h}),   x_t = sqrt(σ_t² - c²) ε + α_t D + c z.

η = 0 is deterministic, of order 1 and equal to the first-order exponential integrator; η = 1 is DDPM with the posterior
variance, and the same as Euler ancestral (k-diffusion): an Euler step in κ = σ/α down to sqrt(κ_t² - κ_up²), then noise
of standard deviation κ_up = η κ_t sqrt(1 - κ_t²/κ_s²). One network call per step.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program


def ddim_row(
    program: Program, x: LinearForm, data: LinearForm, s: Node, t: Node, std: float, shrink: float
) -> LinearForm:
    """x_t = a x_s + (α_t - a α_s) D + std z with a = shrink/σ_s: the form shared by every first-order sampler."""
    ratio = shrink / s.sigma
    x = ratio * x + (t.alpha - ratio * s.alpha) * data
    return x + std * program.noise() if std > 0 else x


@dataclass(frozen=True)
class DDIM(Solver):
    """DDIM with noise fraction η in [0, 1]: 0 deterministic, 1 DDPM ancestral."""

    order: ClassVar[int] = 1
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise AnydiffError(f"eta is {self.eta}, but must lie between 0 (deterministic) and 1 (DDPM ancestral).")

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """A row σ ε + α D + c z per step, c from ``eta``."""
        x = program.start()
        for s, t in itertools.pairwise(nodes):
            data = program.evaluate(x, s)
            h = t.log_snr - s.log_snr
            std = self.eta * t.sigma * np.sqrt(-np.expm1(-2 * h))
            # sqrt(σ_t² - c²), written so that nothing cancels where c is nearly σ_t.
            shrink = t.sigma * np.sqrt((1 - self.eta**2) + self.eta**2 * np.exp(-2 * h))
            x = ddim_row(program, x, data, s, t, std, shrink)
        return x


@dataclass(frozen=True)
class DDPM(Solver):
    """DDPM ancestral sampling, with variance σ_t² (1 - e^{-2h}) (``posterior``) or σ_s² (1 - e^{-2h}) (``large``).

    The large one is the variance of the forward step from t to s (β in the paper); the mean is the same for both. Only
    the posterior variance keeps the marginals of a point mass exact at any step size.

    With ``repeats`` above 1 every step is taken so often, each time from x_s to which the noise of the
    forward step is added again: what is clamped (known entries, known parts) and what is not then come to agree better
    (Lugmayr et al., "RePaint", CVPR 2022, arXiv 2201.09865).

    Args:
        variance: ``posterior`` or ``large``.
        repeats: network calls per step, at least 1.

    Raises:
        UnknownNameError: no such variance.
        AnydiffError: ``repeats`` is no positive whole number.
    """

    order: ClassVar[int] = 1
    variance: str = "posterior"
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.variance not in ("posterior", "large"):
            raise UnknownNameError("variance", self.variance, ("posterior", "large"))
        natural_number("repeats", self.repeats)

    def __repr__(self) -> str:
        repeats = f", repeats={self.repeats}" if self.repeats > 1 else ""
        return f"DDPM(variance={self.variance!r}{repeats})"

    @property
    def calls_per_step(self) -> int:
        """One, as often as the step is repeated."""
        return self.repeats

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """A row of ancestral sampling per step with the noise of ``variance``; to repeat it, one on the way back."""
        x = program.start()
        for s, t in itertools.pairwise(nodes):
            h = t.log_snr - s.log_snr
            gain = -np.expm1(-2 * h)
            shrink = t.sigma * np.exp(-h)
            std = t.sigma * np.sqrt(gain) if self.variance == "posterior" else s.sigma * np.sqrt(gain)
            for again in range(self.repeats):
                if again:
                    x = (s.alpha / t.alpha) * x + s.sigma * np.sqrt(gain) * program.noise()
                data = program.evaluate(x, s)
                x = ddim_row(program, x, data, s, t, std, shrink)
        return x


EulerAncestral = partial(DDIM, eta=1.0)
