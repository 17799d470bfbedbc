r"""How far a motion has come, told from whole frames: ``encoder: course`` of a sequence U-Net.

A motion moves a subject along a curve of images, so the target is the latest frame plus a few numbers times the
differences of earlier frames, x_0 ≈ f_latest + Σ_k w_k (f_k - f_latest). What has to be told from a sequence is w,
and what w depends on is in the frames' inner products, their times and the target's: a perceptron reads them and gives
a normal law of w. The noisy state y = x_0 + κ z says more of it the lower the noise is; with a normal law of w Bayes'
rule has a closed form, so that at every noise level the mean of w given frames and state is exact for that law:

    E[w | y] = μ + L (I + Lᵀ A L / v)⁻¹ Lᵀ (b - A μ) / v,   A = Δ Δᵀ,   b = Δ (y - f_latest),   v = κ² + s².
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.networks.layers import zero_initialised

_FREQUENCIES = (1, 2, 4, 8, 12, 16)
_LEAST = 1e-4
"""Squares of differences are cut here: about that of one voxel in a thousand that differs by 0.3."""
_SHARE = 5.0
"""Shares of the straight line beyond ±5 tell no more than 5."""
_APART = 1e-3


class Course(nn.Module):
    """A normal law of the weights w ``[B, K]`` of K = T - 1 earlier frames, and its mean given a noisy state.

    Args:
        frames: T, at least 2.
        width: of the perceptron.
    """

    def __init__(self, frames: int, width: int = 128) -> None:
        super().__init__()
        self.count = frames - 1
        pairs = self.count * (self.count + 1) // 2
        inputs = pairs + 1 + self.count + self.count + frames * (1 + 2 * len(_FREQUENCIES)) + 1
        sizes = [inputs, width, width, width]
        layers: list[nn.Module] = []
        for left, right in itertools.pairwise(sizes):
            layers += [nn.Linear(left, right), nn.SiLU()]
        self.perceptron = nn.Sequential(*layers, zero_initialised(nn.Linear(width, self.count + pairs + 1)))

    def forward(self, frames: Tensor, seen: Tensor, since: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Differences Δ ``[B, K, *shape]`` to the latest frame, latest first; μ ``[B, K]`` and L ``[B, K, K]``.

        Args:
            frames: ``[B, T, *shape]``; whatever stands in frames that are not seen has no influence.
            seen: bool ``[B, T]``.
            since: each frame's time minus the target's ``[B, T]``.
        """
        order = torch.where(seen, since, -torch.inf).argsort(dim=1, descending=True, stable=True)
        seen, since = torch.gather(seen, 1, order), torch.gather(since, 1, order)
        since = torch.where(seen, since, 0)
        shape = frames.shape[2:]
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        ordered = frames[rows, order].flatten(2)
        differences = torch.where(seen[:, 1:, None], ordered[:, 1:] - ordered[:, :1], 0)
        with torch.autocast(frames.device.type, enabled=False):
            mean, root = self._law(differences.float(), seen, since.float())
        return differences.reshape(len(frames), self.count, *shape), mean, root

    def _law(self, differences: Tensor, seen: Tensor, since: Tensor) -> tuple[Tensor, Tensor]:
        earlier = seen[:, 1:].to(differences)
        gram = differences @ differences.transpose(1, 2) / differences.shape[2]
        own = gram.diagonal(dim1=1, dim2=2)
        total = own.sum(dim=1, keepdim=True).clamp_min(_LEAST)
        gap = since[:, 0] - since[:, 1]
        two = seen[:, 1] & (gap > _APART)
        share = torch.where(two, -since[:, 0] / torch.where(two, gap, 1), 0).clamp(-_SHARE, _SHARE)[:, None]
        upper = torch.triu_indices(self.count, self.count, device=gram.device)
        waves = [wave(math.pi * factor * since) for factor in _FREQUENCIES for wave in (torch.sin, torch.cos)]
        told = [3 * gram[:, upper[0], upper[1]] / total, total.log() / 2 + 2, own.clamp_min(_LEAST).log() / 2 + 2]
        made = self.perceptron(torch.cat([*told, earlier, 3 * since, *waves, share / 2], dim=1))
        free, lower, gate = made.split([self.count, made.shape[1] - self.count - 1, 1], dim=1)
        # The straight line through the two latest, as far as the gate says so; it is nearly right for a steady motion.
        gate = torch.sigmoid(4 * gate)
        line = functional.pad(-share, (0, self.count - 1))
        below = torch.tril_indices(self.count, self.count, device=gram.device)
        root = torch.diag_embed(torch.full_like(free, 0.5))
        root = root.index_put((_row_numbers(root), below[0][None], below[1][None]), lower, accumulate=True)
        root = (1 - gate)[..., None] * root + torch.diag_embed(torch.full_like(free, 0.05))
        return (gate * line + (1 - gate) * free) * earlier, root * earlier[..., None]


def _row_numbers(x: Tensor) -> Tensor:
    """The numbers of the rows of ``x`` as an index ``[B, 1]``."""
    return torch.arange(len(x), device=x.device)[:, None]


def weights_given(state: Tensor, differences: Tensor, mean: Tensor, root: Tensor, variance: Tensor) -> Tensor:
    """E[w | y] ``[B, K]``; see the module.

    Args:
        state: y - f_latest ``[B, 1, *shape]``.
        differences: Δ ``[B, K, *shape]``.
        mean: μ ``[B, K]``.
        root: L ``[B, K, K]``.
        variance: v of what y says of each voxel ``[B]``.
    """
    with torch.autocast(state.device.type, enabled=False):
        known, seen = differences.flatten(2).float(), state.flatten(2).float()
        gram = (known @ known.transpose(1, 2)).double()
        said = (known @ seen.transpose(1, 2)).double()
        mu, root = mean.double()[..., None], root.double()
        precision = 1 / variance.double()[:, None, None]
        left = precision * root.transpose(1, 2)
        inner = torch.eye(root.shape[1], dtype=root.dtype, device=root.device) + left @ gram @ root
        weights: Tensor = mu + root @ torch.linalg.solve(inner, left @ (said - gram @ mu))
    return weights[..., 0].to(state.dtype)
