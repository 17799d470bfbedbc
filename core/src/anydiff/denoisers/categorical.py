"""Kinds of prediction of classes, and how one becomes another.

With x the noised class of an entry, ℓ_u = q(x | x_0 = u) the likelihood of its own noise and K numbers per entry:

==========  ==========================================================================================================
kind        what the K numbers are
==========  ==========================================================================================================
data        p(x_0 = u | x_t), probabilities
logits      log p(x_0 = u | x_t), up to a constant of the entry: what classifiers are trained to give
cavity      log p(x_0 = u | x_t)/ℓ_u, up to a constant: what all other entries say of this one
ratio       log p_t(x_t with class y there)/p_t(x_t), the logarithm of the concrete score (Lou et al., arXiv:2310.16834)
==========  ==========================================================================================================

A reverse step needs the cavity: r(x_s) ∝ Σ_u cavity_u q(x_s | u) q(x_t | x_s). With the posterior in its place (the
"plug-in" step of multinomial diffusion and VQ-DDM) even a single token is drawn from a wrong law, however many steps
are made, unless the network was trained for that step: then its prediction *is* a cavity, and its recipe says so. On a
masked path both are one for masks, whose likelihood is the same for every class, and a class that is there is certain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.categorical import CATEGORICAL_KINDS, CategoricalPath


def convert_classes(
    path: CategoricalPath, x: Tensor, t: float | Tensor, value: Tensor, source: str, target: str
) -> Tensor:
    """``value [B, *shape, K]``, a prediction of kind ``source`` for the classes ``x [B, *shape]``, as kind ``target``.

    Args:
        path: bound to the states.
        x: noised classes, the mask K among them.
        t: their time, a number or ``[B]``.
        value: the prediction.
        source: its kind.
        target: the kind that is wanted.

    Raises:
        UnknownNameError: no such kind of classes.
        AnydiffError: a prediction of another shape, or ratios where nothing of the data is left.
    """
    for kind in (source, target):
        if kind not in CATEGORICAL_KINDS:
            raise UnknownNameError("kind of prediction of classes", kind, CATEGORICAL_KINDS)
    check_prediction(path, x, value)
    if source == target:
        return value
    likelihood = _Likelihood(path, x, t)
    cavity = _cavity(likelihood, value, source)
    if target == "cavity":
        return cavity
    if target == "ratio":
        return likelihood.ratio(cavity)
    posterior = likelihood.applied(cavity)
    return torch.softmax(posterior, dim=-1) if target == "data" else posterior


def check_prediction(path: CategoricalPath, x: Tensor, value: Tensor) -> None:
    """Refuse a prediction that is not of K numbers per entry of the states ``x``.

    Raises:
        AnydiffError: another shape.
    """
    wanted = (*x.shape, path.bound)
    if tuple(value.shape) != wanted:
        raise AnydiffError(
            f"the prediction of classes has shape {tuple(value.shape)} for states of shape {tuple(x.shape)}, but must "
            f"be {wanted}: {path.bound} numbers per entry; the network and the state are of different classes."
        )


def _cavity(likelihood: _Likelihood, value: Tensor, source: str) -> Tensor:
    if source == "cavity":
        return value
    if source == "ratio":
        return likelihood.from_ratio(value)
    return likelihood.removed(torch.log(value) if source == "data" else value)


class _Likelihood:
    """log ℓ_u of the classes ``x`` at times ``t``: one number, and ``gain`` more where u is the class that is there."""

    def __init__(self, path: CategoricalPath, x: Tensor, t: float | Tensor) -> None:
        self.path, self.classes = path, path.bound
        self.present = x < self.classes
        self.x = torch.where(self.present, x, 0).long()[..., None]
        shape = (-1, *[1] * (x.ndim - 1))
        kept, replaced, masked = (
            torch.as_tensor(p, dtype=torch.float64, device=x.device).reshape(shape) for p in path.marginal(t)
        )
        self.kept, self.replaced, self.masked = kept, replaced, masked
        law = path.law_tensor(x)
        self.other = replaced * law[self.x[..., 0]]  # ℓ_u of another class u than the one that is there
        self.certain = self.present & (self.other == 0)
        gain = torch.log1p(kept / self.other.clamp_min(1e-300))
        self.gain = torch.where(self.present & ~self.certain, gain, 0.0)

    def removed(self, posterior: Tensor) -> Tensor:
        """log cavity of log posterior."""
        return self._moved(posterior, -1)

    def applied(self, cavity: Tensor) -> Tensor:
        """log posterior of log cavity; certain where nothing is replaced."""
        out = self._moved(cavity, 1)
        if bool(self.certain.any()):
            out = torch.where(self.certain[..., None], -torch.inf, out)
            sure = torch.where(self.certain[..., None], 0.0, out.gather(-1, self.x))
            out = out.scatter(-1, self.x, sure.to(out.dtype))
        return out

    def _moved(self, value: Tensor, sign: int) -> Tensor:
        if not bool((self.gain != 0).any()):
            return value
        return value.scatter_add(-1, self.x, (sign * self.gain)[..., None].to(value.dtype))

    def ratio(self, cavity: Tensor) -> Tensor:
        """log concrete scores: p_t(y) ∝ ᾱ f_y + (1 - ᾱ - γ̄) m_y for classes and γ̄ for the mask, f the cavity."""
        law = self.path.law_tensor(cavity)
        share = torch.softmax(cavity.double(), dim=-1)
        level = torch.log(self.kept[..., None] * share + self.replaced[..., None] * law)
        own = torch.where(self.present, level.gather(-1, self.x)[..., 0], torch.log(self.masked))
        return (level - own[..., None]).to(cavity.dtype)

    def from_ratio(self, value: Tensor) -> Tensor:
        """log cavity of log concrete scores; the inverse of :meth:`ratio`.

        The score of a class against itself is 1 whatever the prediction says of it, since no training asks for it.
        """
        if not bool((self.replaced > 0).any()):
            return value  # scores of masks are the cavity's probabilities times one number
        value = torch.where(self.present[..., None], value.scatter(-1, self.x, 0.0), value)
        if not bool((self.kept > 0).all()):
            raise AnydiffError(
                "ratios do not determine the data where nothing of them is left (t = 1); take the parametrization "
                "logits or cavity."
            )
        kept, replaced = self.kept[..., None], self.replaced[..., None]
        level = torch.softmax(value.double(), dim=-1) * (kept + replaced)
        return torch.log(((level - replaced * self.path.law_tensor(value)) / kept).clamp_min(0.0)).to(value.dtype)
