"""Cross-entropy for one-hot leaves under Gaussian noise (score interpolation).

For one-hot data E[x_0 | x_t] is the vector of class probabilities, so the denoiser is a classifier and can be trained
as one; the minimiser is that of the squared error (Dieleman et al., "Continuous diffusion for categorical data", 2022,
arXiv:2211.15089, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.base import Objective
from anydiff.objectives.call import Call
from anydiff.objectives.times import TimeLaw
from anydiff.paths.path import Path
from anydiff.states import Leaf

LEAST = 1e-7
"""Probabilities are cut here, so that the loss of an impossible class is finite."""


class CrossEntropy(Objective):
    """E[ Σ_leaves w · mean over entries of -Σ_k x0_k log D_k ], classes along each leaf's last axis.

    A symmetric leaf without an axis for classes, ``(N, N)``, has one class (an edge or none).
    What the classes leave, 1 - Σ_k x0_k, is a class of its own (no edge), with the probability 1 - Σ_k D_k.

    Args:
        weights: w per leaf; 1 where not given. DiGress weighs edges five times (arXiv:2209.14734).
        times: law of the training times, see :class:`~anydiff.objectives.times.TimeLaw`.
        times_mean: mean of the time law, None for its own.
        times_std: standard deviation of the time law, None for its own.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        times: str = "uniform",
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        self.weights = {name: float(weight) for name, weight in (weights or {}).items()}
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise AnydiffError(f"weights.{name} is {weight}, but must not be negative.")
        self.law = TimeLaw(times, times_mean, times_std)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1)."""
        return self.law(path, uniform)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]; see the class.

        Raises:
            AnydiffError: a denoiser that does not predict the data, or whose leaves are not known.
        """
        spec = call.denoiser.spec
        if spec is None or call.denoiser.native_kind != "data":
            raise AnydiffError("cross-entropy needs a denoiser that predicts the data; set parametrization: data.")
        for name in self.weights:
            if name not in spec.names:
                raise UnknownNameError("leaf", name, spec.names)
        clean, present, predicted = call.clean, call.entry_weights, call.native
        total = torch.zeros(len(clean), dtype=clean.dtype, device=clean.device)
        weights = spec.unpack((torch.ones_like(clean) if present is None else present.to(clean)).contiguous())
        targets, guesses = spec.unpack(clean.contiguous()), spec.unpack(predicted.contiguous())
        for leaf in spec.leaves:
            name = leaf.name
            entry = _entropy(_classes(leaf, targets[name]), _classes(leaf, guesses[name]))
            weight = _classes(leaf, weights[name]).amax(dim=-1).reshape(len(clean), -1)
            loss = (weight * entry.reshape(len(clean), -1)).sum(1) / weight.sum(1).clamp_min(1)
            total = total + self.weights.get(name, 1.0) * loss
        return total


def _classes(leaf: Leaf, values: Tensor) -> Tensor:
    """``values [B, *leaf.shape]`` with the classes along the last axis; the second axis of N by N edges is none."""
    return values[..., None] if leaf.symmetric and len(leaf.shape) == 2 else values


def _entropy(target: Tensor, guess: Tensor) -> Tensor:
    """-Σ_k x0_k log D_k, the class of the rest included, over the last axis."""
    rest, rest_guess = 1 - target.sum(-1), 1 - guess.sum(-1)
    return -(target * guess.clamp_min(LEAST).log()).sum(-1) - rest * rest_guess.clamp_min(LEAST).log()
