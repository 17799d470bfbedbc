r"""The variational bound of classes for every kernel: of T steps, or of infinitely many.

    -log p(x_0) <= Σ_i E KL(q(x_s | x_t, x_0) || p(x_s | x_t)),  t = i/T, s = (i - 1)/T,  i = 1 … T

(Austin et al. 2021, arXiv:2107.03006). The last of these terms is -log p(x_0 | x_t), and nothing is added for the
prior, which every path here reaches at t = 1. For T to infinity it becomes the score entropy of normalised scores
(:mod:`anydiff.objectives.score_entropy`), and on a masked path the masked cross-entropy.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.categorical import convert_classes
from anydiff.errors import AnydiffError, natural_number
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.objectives.score_entropy import jump_entropy
from anydiff.paths.categorical import CategoricalPath, categorical
from anydiff.paths.path import Path
from anydiff.solvers.transitions import posterior_law

_NAME = "the objective 'discrete-bound'"


class DiscreteBound(Objective):
    """The bound of the module in nats per entry, unbiased for each example: one time of each is drawn.

    Args:
        steps: T, steps of equal length in t; None for the limit, the least bound and the same on every schedule.
        auxiliary: weight of the cross-entropy of x_0 that is added (D3PM and VQ-Diffusion take 1e-3 to 1e-1); with 0
            the value is a bound.

    Raises:
        AnydiffError: an argument out of range.
    """

    def __init__(self, steps: int | None = None, auxiliary: float = 0.0) -> None:
        self.steps = None if steps is None else natural_number("steps", steps)
        number = isinstance(auxiliary, (int, float)) and not isinstance(auxiliary, bool)
        if not number or not 0 <= auxiliary < math.inf:
            raise AnydiffError(f"auxiliary is {auxiliary!r}, but must be a finite number of at least 0.")
        self.auxiliary = float(auxiliary)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1): one of the T, or one at which 1 - ᾱ is the number."""
        found = categorical(path, _NAME)
        if self.steps is None:
            return found.when_lost(uniform.double())
        return torch.ceil(uniform.double() * self.steps).clamp(1, self.steps) / self.steps

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a path of real numbers."""
        categorical(denoiser.path, _NAME)

    def loss(self, call: Call) -> Tensor:
        """Nats per entry, [B]."""
        first, *others = self.losses(call).values()
        return sum(others, start=first)

    def losses(self, call: Call) -> dict[str, Tensor]:
        """``bound``, and ``auxiliary`` where it has a weight, each nats per entry [B]."""
        path = categorical(call.path, _NAME)
        cavity = call.predict("cavity")
        if self.steps is None:
            entries = bound_rate(path, call.x, call.t, call.clean, cavity)
        else:
            entries = self._steps(path, call, cavity)
        made = {"bound": element_mean(entries, call.entry_weights).to(torch.float32)}
        if self.auxiliary:
            entropy = _entropy(call.predict("logits"), call.clean)
            made["auxiliary"] = (self.auxiliary * element_mean(entropy, call.entry_weights)).to(torch.float32)
        return made

    def _steps(self, path: CategoricalPath, call: Call, cavity: Tensor) -> Tensor:
        """T times the divergence of the step that ends at the drawn time, float64 ``[B, *shape]``."""
        assert self.steps is not None
        rows, t = (-1, *[1] * cavity[0].ndim), call.t
        s = ((t * self.steps).round() - 1) / self.steps
        data = [torch.as_tensor(p, dtype=torch.float64).reshape(rows) for p in path.marginal(s)]
        step = [torch.as_tensor(p, dtype=torch.float64).reshape(rows) for p in path.kernel(s, t)]
        given: dict[str, Any] = {"classes": path.bound, "data": data, "step": step, "law": path.law}
        known = torch.log(functional.one_hot(call.clean.long(), path.bound).double())
        true, guess = posterior_law(call.x, known, **given), posterior_law(call.x, cavity, **given)
        there = true > 0
        gap = torch.log(torch.where(there, true, 1.0)) - torch.log(torch.where(there, guess, 1.0))
        return self.steps * (true * gap).sum(-1)


def bound_rate(path: CategoricalPath, x: Tensor, t: Tensor, clean: Tensor, cavity: Tensor) -> Tensor:
    """The bound of infinitely many steps for each entry, per unit of 1 - ᾱ: float64 ``[B, *shape]``.

    Args:
        path: bound to the states.
        x: noised classes ``[B, *shape]``.
        t: their times ``[B]``.
        clean: the classes that they were made of.
        cavity: predictions of that kind, ``[B, *shape, K]``.
    """
    if path.share < 1:
        scores = convert_classes(path, x, t, cavity.double(), "cavity", "ratio")
        return jump_entropy(path, x, t, clean, scores)
    lost = path.lost(t).reshape(-1, *[1] * (x.ndim - 1))
    return torch.where(x >= path.bound, _entropy(cavity, clean).double() / lost, 0.0)


def _entropy(logits: Tensor, clean: Tensor) -> Tensor:
    """-log p(x_0) of each entry ``[B, *shape]``."""
    flat = functional.cross_entropy(logits.flatten(0, -2).float(), clean.flatten().long(), reduction="none")
    return flat.reshape(clean.shape)
