"""The multivariate Student-t law: heavy-tailed noise whose length is shared by all entries of a sample.

The perturbation kernel of PFGM++ (Xu et al., ICML 2023, arXiv 2302.04265), p_r(x | y) ∝ (|x - y|² + r²)^(-(N+D)/2) with
r = σ sqrt(D), is the multivariate Student-t law of D degrees of freedom, location y and scale σ. So a draw is
x = y + σ z sqrt(D/g) with z ~ N(0, I_N) and one g ~ χ²_D per sample, whatever N is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.states.noise import GaussianNoise, NoiseLaw
from anydiff.states.spec import Leaf
from anydiff.states.streams import uniform

_SHARED = "student-t/length"
"""The stream of a sample's g, which no leaf owns."""


class StudentTNoise(NoiseLaw):
    """ε = z sqrt(D/g), one g ~ χ²_D for all entries and leaves of a sample.

    Args:
        dof: D, a positive finite number; real numbers are allowed. D = 1 is the law of PFGM.

    Raises:
        AnydiffError: ``dof`` is not positive and finite (the limit D = ∞ is :class:`GaussianNoise`).
    """

    name = "student-t"

    def __init__(self, dof: float) -> None:
        if isinstance(dof, bool) or not isinstance(dof, (int, float)) or not 0 < dof < math.inf:
            raise AnydiffError(
                f"dof is {dof!r}, but must be a positive number; infinity, Gaussian noise, is a law of its own."
            )
        self.dof = float(dof)
        self._normal = GaussianNoise()

    @property
    def variance(self) -> float:  # type: ignore[override]  # a field there
        """D/(D - 2), infinite for D <= 2."""
        return self.dof / (self.dof - 2) if self.dof > 2 else math.inf

    @property
    def end_exponent(self) -> float:  # type: ignore[override]  # a field there
        """min(D, 2): below D = 2 the tail, |ε|^-(N+D), decides how far the noise still moves the mean."""
        return min(self.dof, 2.0)

    def draw(self, leaf: Leaf, seed: int, samples: Sequence[int], draw: int) -> NDArray[np.float64]:
        """See :meth:`NoiseLaw.draw`; the leaf's normal numbers, times the sample's length."""
        noise = self._normal.draw(leaf, seed, samples, draw)
        noise *= self.length(seed, samples, draw).reshape(-1, *([1] * (noise.ndim - 1)))
        return noise

    def length(self, seed: int, samples: Sequence[int], draw: int) -> NDArray[np.float64]:
        """sqrt(D/g) of each sample ``[len(samples)]``: g is the χ²_D quantile of one uniform number."""
        from scipy.special import gammaincinv  # not needed by Gaussian noise

        quantile = 2 * gammaincinv(self.dof / 2, uniform(seed, samples, draw, _SHARED).numpy())
        return np.asarray(np.sqrt(self.dof / np.maximum(quantile, np.finfo(np.float64).tiny)))

    def log_density(self, noise: Tensor) -> Tensor:
        """log Γ((N+D)/2) - log Γ(D/2) - N/2 log(π D) - (N+D)/2 log(1 + |ε|²/D)."""
        flat = noise.double().flatten(1)
        size, dof = flat.shape[1], self.dof
        constant = math.lgamma((size + dof) / 2) - math.lgamma(dof / 2) - size / 2 * math.log(math.pi * dof)
        return constant - (size + dof) / 2 * torch.log1p(flat.square().sum(1) / dof)
