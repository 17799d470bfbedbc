"""Tractable steering: the clean state is drawn from the denoiser's law times a tractable model's exact posterior.

Liu, Niepert, Van den Broeck, "Image inpainting via tractable steering of diffusion models" (ICLR 2024,
arXiv:2401.03349). A tractable model over symbols (a tree, a hidden Markov chain; :mod:`anydiff.inverse.tractable`)
gives the exact marginals q_i of each entry under what is known and under the noised state: the evidence is N(y_i; v,
s²) where an entry is measured, and N(x_t,i; α v, σ²) elsewhere. At the first steps of a walk straight down, in which
known entries are pasted with fresh noise, each entry of x_0 is drawn from

    p_i^a q_i^(1 - a) / Z,    a = w + (w_end - w) e^(-rate τ),    τ = the share of steps that are left,

with p_i the denoiser's law of the symbol: its own where it tells one, else a Gaussian around D of variance
r_t² = σ_d² σ²/(σ² + α² σ_d²) at the symbols' values. The next state is α_s x_0 + σ_s e, with the direction e that
leads from x_0 to x_t (``recomputed``: of an exact law the next state then has its law, entry by entry), or that of the
network's own D (``kept``, as the authors do; in two of three seeds of the claim ``tiramisu`` the samples are then
likelier than the truth, in one less likely).

Marginals are drawn entry by entry: what entries have to do with one another is repaired over many steps, so a few
steered steps of a weak model say little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError, real_number
from anydiff.inverse.method import PlanMethod, ProblemPlan, Solving
from anydiff.inverse.problem import Problem
from anydiff.inverse.repaint import PASTE, SETTLE, pasted, require_mask
from anydiff.inverse.symbols import TellsSymbols, TractableModel, checked_values, likelihood
from anydiff.solvers.executor import Operation
from anydiff.solvers.walk import Operations, Walk

STEP = "tiramisu-step"
FLOOR = 1e-300
SymbolLaw = Callable[[Tensor, Tensor, float, float, float], Tensor]
"""(x_t, D, t, alpha, sigma) -> p(symbol_i), float64 ``[B, n, K]``."""


@dataclass(frozen=True, eq=False)
class Tiramisu(PlanMethod):
    """Tractable steering; see the module.

    Args:
        model: the tractable model, of as many variables as a state has entries, in the order of the flattened state.
        values: the number of each of its symbols, in the units of states ``[K]``.
        weight: w, of the denoiser in the product; with ``end_weight`` 1 nothing is steered.
        end_weight: w_end.
        rate: of the change from one to the other.
        share: which share of the steps is steered, the first ones; 1 for all.
        draw: whether x_0 is drawn, or is the mean of the product.
        direction: ``recomputed`` or ``kept``.

    Raises:
        AnydiffError: an option that is out of its range, or values that do not fit the model.
    """

    model: TractableModel
    values: Tensor | Sequence[float]
    weight: float = 0.8
    end_weight: float = 1.0
    rate: float = 2.0
    share: float = 0.1
    draw: bool = True
    direction: str = "recomputed"

    def __post_init__(self) -> None:
        if not isinstance(self.model, TractableModel):
            raise AnydiffError(
                f"model is a {type(self.model).__name__}, which gives no marginals; give a tree or a hidden Markov "
                "chain (anydiff.inverse.tractable)."
            )
        object.__setattr__(self, "values", checked_values(self.values, self.model))
        for name in ("weight", "end_weight", "share"):
            real_number(name, getattr(self, name), 0, 1)
        real_number("rate", self.rate, 0)
        if self.direction not in ("kept", "recomputed"):
            raise UnknownNameError("direction", self.direction, ("kept", "recomputed"))

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse what is no mask, and states of another size than the model's.

        Raises:
            AnydiffError: the sentence names a method that can, or both sizes.
        """
        require_mask(problem, "tiramisu")
        if problem.operator.size != self.model.size:
            raise AnydiffError(
                f"the tractable model has {self.model.size} variables, but a state has {problem.operator.size} "
                "entries; fit one to states of this size."
            )

    @property
    def steers(self) -> bool:
        """Whether any step is steered."""
        return self.share > 0 and not self.weight == self.end_weight == 1

    def walk(self, problem: Problem) -> Walk:
        """Straight down with what is known pasted in; each step an operation where something is steered."""
        seen = bool(problem.operator.observed(problem.measurement).any())
        names = Operations(paste=PASTE, settle=SETTLE, step=STEP if self.steers else "") if seen else Operations()
        return Walk(0.0, operations=names)

    def operations(self, problem: Problem) -> Mapping[str, Operation]:
        """The pasting."""
        return pasted(problem)

    def sampler(self, problem: Problem, denoiser: Denoiser, solving: Solving) -> ProblemPlan:
        """The walk, with the denoiser's law of symbols and the share of steps that is left at each node."""
        made = super().sampler(problem, denoiser, solving)
        nodes = made.plan.nodes
        left = {t: 1 - place / (len(nodes) - 1) for place, t in enumerate(nodes)}
        law = self.law(denoiser)

        def operations(problem: Problem) -> Mapping[str, Operation]:
            return {**pasted(problem), STEP: self.step(problem, law, left)}

        return replace(made, operations=lambda condition: operations(problem.of(condition)))

    def law(self, denoiser: Denoiser) -> SymbolLaw:
        """What the denoiser says of each symbol."""
        if isinstance(denoiser, TellsSymbols):
            teller = denoiser
            return lambda x, data, t, alpha, sigma: teller.symbol_law(x, t)
        spread = denoiser.sigma_data

        def around(x: Tensor, data: Tensor, t: float, alpha: float, sigma: float) -> Tensor:
            std = spread * sigma / math.sqrt(sigma**2 + alpha**2 * spread**2)
            return likelihood(data.flatten(1), torch.as_tensor(self.values), 1.0, std)

        return around

    def weight_at(self, left: float) -> float:
        """a, where this share of the steps is left; 1 where nothing is steered."""
        if left < 1 - self.share:
            return 1.0
        return self.weight + (self.end_weight - self.weight) * math.exp(-self.rate * left)

    def step(self, problem: Problem, law: SymbolLaw, left: Mapping[float, float]) -> Operation:
        """The move from a node to the next, for the rows of a problem."""
        settle = pasted(problem)[SETTLE]

        def step(
            x: Tensor, data: Tensor, z: Tensor, *, t: float, alpha: float, sigma: float, next_alpha: float,
            next_sigma: float,
        ) -> Tensor:  # fmt: skip
            a, found = self.weight_at(left[t]), data
            if a < 1:
                found = self.clean(problem, law(x, data, t, alpha, sigma), x, z, a, alpha, sigma)
            elif next_sigma == 0:
                found = settle(data, t=t)
            centre = found if self.direction == "recomputed" else data
            return next_alpha * found + next_sigma * (x - alpha * centre) / sigma

        return step

    def product(self, problem: Problem, law: Tensor, x: Tensor, a: float, alpha: float, sigma: float) -> Tensor:
        """p_i^a q_i^(1 - a) / Z, float64 ``[B, n, K]``, of the denoiser's ``law`` p at the state ``x``."""
        values = torch.as_tensor(self.values)
        evidence = likelihood(x.flatten(1).cpu(), values, alpha, sigma)
        y = problem.measurement.double().expand(len(x), *problem.operator.output)
        seen = problem.operator.observed(y).flatten(1)
        std = problem.gaussian.std.expand(len(problem.gaussian.std), *problem.operator.output).flatten(1)
        evidence = torch.where(seen[..., None], likelihood(y.flatten(1), values, 1.0, std), evidence)
        tractable = self.model.marginals(evidence)
        both = a * law.clamp_min(FLOOR).log() + (1 - a) * tractable.clamp_min(FLOOR).log()
        return torch.softmax(both, -1)

    def clean(
        self, problem: Problem, law: Tensor, x: Tensor, z: Tensor, a: float, alpha: float, sigma: float
    ) -> Tensor:
        """The clean state ``[B, *shape]``: drawn by the unit noise ``z``, or the mean; known entries as measured."""
        product, values = self.product(problem, law.cpu(), x, a, alpha, sigma), torch.as_tensor(self.values)
        if self.draw:
            share = torch.special.ndtr(z.flatten(1).cpu().double())
            place = (product.cumsum(-1) < share[..., None]).sum(-1).clamp_max(len(values) - 1)
            found = values[place]
        else:
            found = product @ values
        return pasted(problem)[SETTLE](found.to(x).reshape(x.shape), t=0.0)
