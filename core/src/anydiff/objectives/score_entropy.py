r"""Score entropy: what the concrete scores p_t(y)/p_t(x_t) of one entry cost, for every kernel of classes.

With R(y -> x) the forward rate from class y to x, s_y the predicted score and r_y = q(y | x_0)/q(x_t | x_0),

    -log p(x_0) <= ∫ E Σ_entries Σ_{y ≠ x_t} R(y -> x_t) (s_y - r_y log s_y + r_y (log r_y - 1)) dt

(Lou et al. 2024, arXiv:2310.16834; nothing is added for the prior, which every path here reaches at t = 1). It is
written by u = 1 - ᾱ in place of t, which no schedule changes: the rate to a mask is then γ/(1 - γ u) with γ the share
of masks, and classes are replaced at the rate 1/ᾱ - γ/(1 - γ u). On a masked path, with normalised scores, what is left
of the sum is -log c(x_0)/u at masks: the masked cross-entropy (Ou et al. 2024, arXiv:2406.03736).
"""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers.categorical import convert_classes
from anydiff.errors import AnydiffError
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.paths.categorical import CategoricalPath, categorical
from anydiff.paths.path import Path


class ScoreEntropy(Objective):
    """The bound of the module in nats per entry, of scores as the denoiser gives them (``parametrization: ratio``).

    A score of a class against itself is 1 and is not learnt. Of another kind of prediction the scores are those that
    follow from it, which are normalised; the loss is then that of ``discrete-bound``, continuous.

    Args:
        least_kept: ᾱ below which no times are drawn, in [0, 1). Scores that a network gives as they are cost 1/ᾱ times
            their squared error near t = 1. With exact scores what is left out is below ``least_kept``² per entry where
            classes are replaced, and ``least_kept`` times the entropy of an entry where they are masked.

    Raises:
        AnydiffError: ``least_kept`` out of range.
    """

    def __init__(self, least_kept: float = 1e-3) -> None:
        if isinstance(least_kept, bool) or not isinstance(least_kept, (int, float)) or not 0 <= least_kept < 1:
            raise AnydiffError(f"least_kept is {least_kept!r}, but must be a number in [0, 1); try 0.001.")
        self.least_kept = float(least_kept)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1): 1 - ᾱ is uniform up to 1 - ``least_kept``."""
        return categorical(path, "the objective 'score-entropy'").when_lost(uniform.double() * (1 - self.least_kept))

    def prepare(self, denoiser: object) -> None:
        """Refuse a path of real numbers."""
        categorical(denoiser.path, "the objective 'score-entropy'")  # type: ignore[attr-defined]

    def loss(self, call: Call) -> Tensor:
        """Nats per entry, [B]."""
        path = categorical(call.path, "the objective 'score-entropy'")
        if call.denoiser.native_kind == "ratio":
            scores = call.native.double()
        else:
            scores = convert_classes(path, call.x, call.t, call.predict("cavity").double(), "cavity", "ratio")
        entropy = jump_entropy(path, call.x, call.t, call.clean, scores)
        return ((1 - self.least_kept) * element_mean(entropy, call.entry_weights)).to(torch.float32)


def jump_entropy(path: CategoricalPath, x: Tensor, t: Tensor, clean: Tensor, scores: Tensor) -> Tensor:
    """The sum over y of the module's text for each entry, per unit of 1 - ᾱ: float64 ``[B, *shape]``.

    Args:
        path: bound to the states.
        x: noised classes ``[B, *shape]``.
        t: their times ``[B]``.
        clean: the classes that they were made of.
        scores: log s_y, float64 ``[B, *shape, K]``; that of the class which is there is not read.
    """
    rows = (-1, *[1] * (x.ndim - 1))
    kept, replaced, masked = (torch.as_tensor(p, dtype=torch.float64).reshape(rows) for p in path.marginal(t))
    law, present = path.law_tensor(scores), x < path.bound
    own = torch.where(present, x, 0).long()
    source = torch.nn.functional.one_hot(clean.long(), path.bound).double()
    level = kept[..., None] * source + (replaced[..., None] * law)
    here = torch.where(present, level.gather(-1, own[..., None])[..., 0], masked)
    costs = _costs(level, here[..., None].clamp_min(1e-300), scores)
    costs = torch.where(present[..., None] & _is(own, path.bound), 0.0, costs)
    to_mask = path.share / (1 - path.share * path.lost(t)).clamp_min(1e-300).reshape(rows)
    replace = 1 / kept.clamp_min(1e-300) - to_mask if path.share < 1 else torch.zeros_like(kept)
    rate = torch.where(present, replace * law[own], to_mask)
    return torch.where(rate > 0, rate * costs.sum(-1), 0.0)


def _costs(level: Tensor, here: Tensor, scores: Tensor) -> Tensor:
    """s - r log s + r (log r - 1) with r = level/here: s (d e^d - (e^d - 1)), d = log r - log s, and s where r = 0."""
    possible = level > 0
    log_ratio = torch.log(torch.where(possible, level, here)) - torch.log(here)
    difference = torch.where(possible, log_ratio - scores, 0.0)
    grown = difference * torch.exp(difference) - torch.expm1(difference)
    return torch.exp(scores) * torch.where(possible, grown, 1.0)


def _is(own: Tensor, classes: int) -> Tensor:
    """Whether a class is the entry's own, ``[B, *shape, K]``."""
    return own[..., None] == torch.arange(classes, device=own.device)
