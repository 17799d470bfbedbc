"""Adaptation to a few examples that keeps the variety of the model it begins from: pairs, and wavelet details.

Zhu et al. 2023, "DomainStudio: fine-tuning diffusion models for domain-driven image generation using limited data"
(arXiv:2306.14153; before it "DDPM-PA", arXiv:2211.03264). The model that is adapted and the frozen one that it began
from, the companion ``source``, predict the clean data of the same states x_t. How alike the examples of a batch are to
one another, by the source, is to stay: with p_i(j) the softmax over j ≠ i of the cosine of predictions i and j,

    L = Σ_{i≠j} p_i^source(j) (log p_i^source(j) - log p_i(j)) / (m (m - 1))        of m examples,

of the predictions themselves, and of their details hf(x) = LH + HL + HH, the sum of the bands of one level of the Haar
transform but the coarse one. Beside it stands |hf(x̂_0) - hf(x_0)|², a mean over entries. Formulas are the paper's; of
its two released scripts one never sets the weights, and the other has no frozen source.

Where σ/α exceeds ``largest`` predictions are nearly the mean of the data, all alike, and an error of the noise is
blown up: such rows count for nothing. Predictions at different times are sharp to different degrees, so train by the
method ``shared-time``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.denoisers.base import Denoiser
from anydiff.distillation.companion import check_axes, check_same_states
from anydiff.errors import AnydiffError
from anydiff.networks.wavelets import haar
from anydiff.objectives import Call, Coupled
from anydiff.objectives.terms import Term

SOURCE = "source"
FEWEST = 3
"""Of two examples each is all that the other can be like: the loss would be zero."""


def details(x: Tensor) -> Tensor:
    """hf ``[B, C, *half]`` of ``x [B, C, *n]``, d = 1 to 3: the sum of the bands of :func:`haar` but the coarse one."""
    return haar(x)[:, 1:].sum(1)


def pair_divergence(source: Tensor, made: Tensor, counted: Tensor | None = None) -> Tensor:
    """L of the module's text, a number, of predictions ``[m, d]`` of the source and of the adapted model.

    Only the angles between rows count: a common factor or rotation changes nothing. A row of zeros is like no other.
    The divergences of rows that are not ``counted``, bool ``[m]``, are left out of the sum.
    """
    rows = len(made)
    within = torch.eye(rows, dtype=torch.bool, device=made.device)
    log_source, log_made = (
        (unit := functional.normalize(each, dim=1)).matmul(unit.T).masked_fill(within, -torch.inf).log_softmax(1)
        for each in (source, made)
    )
    terms = (log_source.exp() * (log_source - log_made).masked_fill(within, 0)).sum(1)
    return (terms if counted is None else torch.where(counted, terms, 0 * terms)).sum() / (rows * (rows - 1))


def _checked_limit(largest: float) -> float:
    if isinstance(largest, bool) or not isinstance(largest, (int, float)) or not 0 < largest < math.inf:
        raise AnydiffError(f"largest is {largest!r}, but must be a positive number: the σ/α up to which rows count.")
    return float(largest)


def _counted(call: Call, largest: float) -> Tensor:
    """Which rows are clear enough, bool ``[rows]``."""
    path = call.gaussian_path
    level = path.sigma(call.t) / path.alpha(call.t)
    return (level.flatten(1).amax(1) if level.ndim > 1 else level) <= largest


def _weighed(x: Tensor, call: Call) -> Tensor:
    """Entries by the root of their weights, so that squares and products have the weights."""
    if call.entry_weights is None:
        return x
    return x * call.entry_weights.expand(x.shape).to(x).sqrt()


class PairSimilarities(Coupled):
    """L of the predictions of clean data, or with ``of_details`` of their details, over the whole batch.

    Args:
        of_details: whether details are compared, of pictures, volumes or sequences.
        largest: σ/α up to which rows count.

    Raises:
        AnydiffError: ``largest`` is not positive.
    """

    needs = (SOURCE,)
    fewest_rows = FEWEST

    def __init__(self, of_details: bool = False, largest: float = 10.0) -> None:
        self.of_details, self.largest = bool(of_details), _checked_limit(largest)

    def meet(self, denoiser: Denoiser, companions: Mapping[str, Denoiser]) -> None:
        """Refuse a source of other states or another path, and details of states without spatial axes."""
        check_same_states(denoiser, companions[SOURCE], SOURCE, "adapted model")
        if self.of_details:
            check_axes(denoiser, "details", "leave of_details out")

    def outputs(self, call: Call) -> Mapping[str, Tensor]:
        """``made`` and ``source``: what is compared, ``[rows, d]``; ``counted``: which rows are clear enough."""
        with torch.no_grad():
            source = call.predicted_by(SOURCE, "data")
        both = [_weighed(each, call) for each in (call.predict("data"), source)]
        made, source = (details(each).flatten(1) if self.of_details else each.flatten(1) for each in both)
        return {"made": made, "source": source, "counted": _counted(call, self.largest)}

    def batch_loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """L, in float64; the divergences of rows that are too noisy are left out.

        Raises:
            AnydiffError: fewer than three examples.
        """
        made, source, counted = outputs["made"].double(), outputs["source"].double(), outputs["counted"].bool()
        if len(made) < FEWEST:
            raise AnydiffError(
                f"similarities are asked for of {len(made)} examples, but of two each is all that the other can be "
                f"like; raise training.batch_size to {FEWEST} or more."
            )
        return pair_divergence(source, made, counted)


class WaveletDetails(Term):
    """|hf(x̂_0) - hf(x_0)|² of the prediction and the example, a mean over entries; zero where σ/α is too large.

    Args:
        largest: σ/α up to which rows count.

    Raises:
        AnydiffError: ``largest`` is not positive.
    """

    def __init__(self, largest: float = 10.0) -> None:
        self.largest = _checked_limit(largest)

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse states without spatial axes."""
        check_axes(denoiser, "details", "leave this term out")

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        missed = details(_weighed(call.predict("data") - call.clean, call)).square().flatten(1).mean(1)
        if call.entry_weights is not None:
            missed = missed / call.entry_weights.expand(call.clean.shape).flatten(1).mean(1).clamp_min(1e-12)
        return torch.where(_counted(call, self.largest), missed, 0 * missed)
