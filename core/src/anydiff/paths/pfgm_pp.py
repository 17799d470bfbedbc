"""PFGM++ (Xu et al., ICML 2023, arXiv 2302.04265): the path of EDM with a heavy-tailed perturbation.

Data on the hyperplane z = 0 of R^(N+D) are charges; their field carries points out to a large hemisphere. By symmetry
only r = |z| matters, and with r = σ sqrt(D) the field lines obey dx/dσ = (x - D(x, σ))/σ: the ODE of EDM to the letter.
What differs is the law of the noise and of the prior: a multivariate Student-t law with D degrees of freedom
(:class:`~anydiff.states.student_t.StudentTNoise`). D = 1 is PFGM, D = ∞ is EDM.

For finite D there is no score: -(x - D)/σ² is not ∇log p, and noise added on the way would be of another law. So
stochastic solvers, Langevin steps and guidance that shifts the score are refused on this path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from anydiff.paths.variance_exploding import EDM
from anydiff.states.noise import GaussianNoise, NoiseLaw
from anydiff.states.student_t import StudentTNoise


@dataclass(frozen=True)
class PFGMPlusPlus(EDM):
    """α = 1, σ_t = t in [0.002, 80], ε = z sqrt(dof/g) with one g ~ χ²_dof per sample.

    Args:
        t_start: the greatest σ.
        t_end: the least σ.
        dof: D, the number of augmented dimensions: a positive number, or infinity for Gaussian noise. The paper's best
            lie between 64 and 2048 for images.

    Raises:
        AnydiffError: ``dof`` is not positive.
    """

    dof: float = 128.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.noise_law

    @cached_property
    def noise_law(self) -> NoiseLaw:  # type: ignore[override]  # a field there
        """Student-t of ``dof`` degrees of freedom; Gaussian in the limit."""
        return GaussianNoise() if self.dof == math.inf else StudentTNoise(self.dof)
