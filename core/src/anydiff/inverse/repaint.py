"""RePaint: what is known is pasted in with fresh noise before every call, and the walk goes up and down again.

Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool, "RePaint: inpainting using denoising diffusion probabilistic models"
(CVPR 2022). At each node x_t = m ⊙ (α y + sqrt(σ² - α² s_y²) z) + (1-m) ⊙ x_t, then a step of ancestral sampling. At
every ``length`` nodes the walk climbs back as many by the forward process, ``times`` times, so that what is made and
what is known come to agree. That costs calls: about ``times`` + 1 of them for each node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.inverse.method import PlanMethod, require_linear
from anydiff.inverse.operators.mask import Mask
from anydiff.inverse.problem import Problem
from anydiff.solvers.executor import Operation
from anydiff.solvers.walk import Operations, Walk

PASTE, SETTLE = "repaint-paste", "repaint-settle"


@dataclass(frozen=True)
class RePaint(PlanMethod):
    """RePaint; see the module.

    Args:
        length: nodes that are climbed at a time (10 of 250 in the paper).
        times: how often each stretch is climbed again (9 in the paper); 0 goes straight down.
        eta: noise of a step, in [0, 1]; 1 is ancestral sampling.
    """

    length: int = 2
    times: int = 4
    eta: float = 1.0

    def __post_init__(self) -> None:
        Walk(self.eta, length=self.length, times=self.times)

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse what is no mask.

        Raises:
            AnydiffError: the sentence names a method that can.
        """
        require_mask(problem, "repaint")

    def walk(self, problem: Problem) -> Walk:
        """Down and up again, with what is known pasted in."""
        seen = bool(problem.operator.observed(problem.measurement).any())
        names = Operations(paste=PASTE, settle=SETTLE) if seen else Operations()
        return Walk(self.eta, length=self.length, times=self.times, operations=names)

    def operations(self, problem: Problem) -> Mapping[str, Operation]:
        """The pasting, and the known entries of the finished sample where they have no noise."""
        return pasted(problem)


def require_mask(problem: Problem, method: str) -> None:
    """Refuse a problem whose operator is no mask, or whose noise is not Gaussian.

    Raises:
        AnydiffError: the sentence names methods that take it.
    """
    operator = require_linear(problem)
    if not isinstance(operator, Mask):
        raise AnydiffError(
            f"the method {method!r} takes masks alone, not the operator {type(operator).__name__}; use the method "
            "'mmps' or 'ddnm'."
        )


def pasted(problem: Problem) -> dict[str, Operation]:
    """:data:`PASTE`, what is known with the noise that it lacks, and :data:`SETTLE`, what is known exactly."""
    operator, std = problem.linear_operator, problem.gaussian.std

    def paste(x: Tensor, z: Tensor, *, t: float, alpha: float, sigma: float) -> Tensor:
        left = (sigma**2 - (alpha * std.to(x)).square()).clamp_min(0.0).sqrt()
        return operator.project(x, alpha * problem.measurement.to(x) + left * z)

    def settle(data: Tensor, *, t: float) -> Tensor:
        exact = operator.project(data, problem.measurement.to(data))
        return torch.where(std.to(data) == 0, exact, data)

    return {PASTE: paste, SETTLE: settle}
