"""What a linear measurement says of states of a given spread (the gain of its residual), and shrinkage."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.inverse.operators.base import LinearOperator
from anydiff.inverse.operators.conjugate import conjugate_gradients


def shrink(u: Tensor, limit: float) -> Tensor:
    """sign(u) max(|u| - limit, 0): the proximal operator of ``limit`` times the sum of absolute values."""
    return u.sign() * (u.abs() - limit).clamp_min(0.0)


def gain(operator: LinearOperator, residual: Tensor, prior: Tensor, noise: Tensor, steps: int = 50) -> Tensor:
    """Aᵀ (A R Aᵀ + N)⁺ e ``[B, *shape]``: what a measurement's residual e says of states of prior covariance R.

    In closed form where A is a factor per entry, or has an SVD while R and N are one number each per row; else by
    conjugate gradients.

    Args:
        operator: A.
        residual: e ``[B, *output]``.
        prior: R, variances ``[B or 1, *shape]``, with axes of length 1 where all entries have one.
        noise: N, variances ``[B or 1, *output]``, likewise; 0 is allowed.
        steps: at most so many steps where there is no closed form.
    """
    factor = operator.diagonal()
    if factor is not None:
        factor = factor.to(residual)
        total = factor.square() * prior + noise
        return torch.where(factor != 0, factor * residual / total.where(factor != 0, torch.ones_like(total)), 0.0)
    found = operator.svd()
    if found is not None and prior[0].numel() == 1 and noise[0].numel() == 1:
        values = found.values.to(residual.device)
        total = values.square() * prior.flatten(1).double() + noise.flatten(1).double()
        return found.filtered(residual, values / total.where(values > 0, torch.ones_like(total)))

    def images(p: Tensor) -> tuple[Tensor, Tensor]:
        back = operator.adjoint(p)
        return operator.forward(prior * back) + noise * p, back

    also = conjugate_gradients(images, residual, steps, 1e-6)[1]
    return torch.zeros_like(operator.adjoint(residual)) if also is None else also
