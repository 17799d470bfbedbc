"""Masked cross-entropy: the bound of the log-likelihood on a masked path, in three forms of one integral.

With λ = 1 - ᾱ_t the probability of a mask, c(· | x) the prediction and sums over the masked entries of x,

    -log p(x_0) <= ∫_0^1 (1/λ) E_λ Σ -log c(x_0^i | x) dλ            λ-form (schedule-free)
                 = ∫_0^1 -ᾱ'_t/(1 - ᾱ_t) E_t Σ -log c(x_0^i | x) dt  t-form
                 = E_k (L/k) Σ -log c(x_0^i | x),  k ~ U{1..L}        k-form: exactly k masks, any-order autoregression

(Ou et al. 2024, arXiv:2406.03736; Sahoo et al. 2024, arXiv:2406.07524). The t-form is without the constant of RADD's
code, which takes the logarithm of a scaled score and prints no likelihood.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.paths.categorical import CategoricalPath, categorical
from anydiff.paths.path import Path

FORMS = ("lambda", "t", "k")


class MaskedCrossEntropy(Objective):
    """The bound of the module in nats per entry, unbiased for each example.

    Args:
        form: ``lambda`` (the probability of a mask is uniform), ``t`` (the time is) or ``k`` (the number of masks is).

    Raises:
        UnknownNameError: no such form.
    """

    def __init__(self, form: str = "lambda") -> None:
        if form not in FORMS:
            raise UnknownNameError("form", form, FORMS)
        self.form = form

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1): at which 1 - ᾱ is the number, or uniform for the t-form."""
        u = uniform.double()
        return masked(path).when_lost(u) if self.form != "t" else path.t_end + (path.t_start - path.t_end) * u

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a path on which classes are replaced."""
        masked(denoiser.path)

    def loss(self, call: Call) -> Tensor:
        """Nats per entry, [B]."""
        path = masked(call.path)
        if self.form == "k":
            call.once("x", lambda: _with_k_masks(call, path))
            weight = call.clean[0].numel() / _mask_counts(call)
        elif self.form == "t":
            weight = path.decay(call.t) / path.lost(call.t) * (path.t_start - path.t_end)
        else:
            weight = 1 / path.lost(call.t)
        return weight.to(torch.float64).mul(_masked_entropy(call, path).double()).to(torch.float32)


def masked(path: Path) -> CategoricalPath:
    """``path`` itself, if nothing but masks replaces its classes.

    Raises:
        AnydiffError: it is another, where the bound is not this one.
    """
    found = categorical(path, "the objective 'masked-cross-entropy'")
    if found.share < 1:
        raise AnydiffError(
            f"the objective 'masked-cross-entropy' is the bound of the path 'masked', but {path!r} replaces classes; "
            "take that path."
        )
    return found


def _masked_entropy(call: Call, path: CategoricalPath) -> Tensor:
    """Σ over masked entries of -log c(x_0^i | x), over the number of entries, [B]."""
    logits = call.predict("cavity")
    entropy = functional.cross_entropy(logits.flatten(0, -2).float(), call.clean.flatten(), reduction="none")
    is_mask = (call.x >= path.bound).to(entropy.dtype)
    return element_mean(entropy.reshape(call.clean.shape) * is_mask, call.entry_weights)


def _mask_counts(call: Call) -> Tensor:
    """k of each row, 1 to L, from its uniform number."""
    size = call.clean[0].numel()
    return torch.ceil(call.uniform.double() * size).clamp(1, size)


def _with_k_masks(call: Call, path: CategoricalPath) -> Tensor:
    """The clean classes with the masks at the entries of the k least noise numbers."""
    ranks = call.noise.flatten(1).argsort(dim=1).argsort(dim=1).reshape(call.noise.shape)
    counts = _mask_counts(call).reshape(-1, *[1] * (call.clean.ndim - 1))
    return torch.where(ranks < counts, path.bound, call.clean)
