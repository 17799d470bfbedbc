"""The statistics of DPM-Solver-v3: l, s and b of one model, by Hutchinson's probes and central differences.

Zheng et al., NeurIPS 2023 (arXiv 2310.13268); the method is :mod:`anydiff.solvers.dpm_solver_v3`. Over noised samples
x = α x_0 + σ z of the model, for every entry by itself, with y = x/α, κ = σ/α and D the data prediction,

    l = E[1 - α dD/dx]   (the diagonal of the Jacobian: mean of v · Jᵀv for signs v, one backward pass each),
    f = (1 - l) y - D,   f1 = -l' y - (1 - l)(y - D) - D1,   s = Cov(f, f1)/Var f,   b = E f1 - s E f,

where D1 = dD/dλ along the flow (central differences of two calls) and l' is the slope of l over the points. f and f1
are linear in (y, D, D1), so their first and second moments say all. s is 0 where Var f vanishes. x_0, z and v are the
same at every point: noise in l would be amplified in l'.

Entries that a symmetry of the states makes alike (nodes, entries of an adjacency and their transposes) share a
statistic, or else permuting a graph would change its law; absent ones have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.calibration.search import Spending
from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.paths.base import GaussianPath
from anydiff.solvers.dpm_solver_v3 import Statistics
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec

#: Relative to the spread of its parts, the variance of f below which s is 0.
VANISHING = 1e-8
#: Length in λ of the central differences, on either side.
REACH = 0.01
#: States of more entries than this share their statistics within a channel.
MANY = 100_000
POOLS = ("auto", "entry", "channel")

Statistic = NDArray[np.float64]


@dataclass(frozen=True)
class Sampled:
    """What statistics are taken over.

    Attributes:
        clean: x_0 ``[K, *shape]``.
        noise: z of unit scale, the same shape.
        probes: signs, each ``[K, *shape]``.
        condition: K rows.
        batch: rows per network call.
    """

    clean: Tensor
    noise: Tensor
    probes: Sequence[Tensor]
    condition: Conditioning = UNCONDITIONAL
    batch: int = 64


def statistic_times(path: GaussianPath, points: int) -> list[float]:
    """``points`` times, uniform in λ; the ends are the path's own wherever λ is finite there."""
    natural_number("points", points, minimum=3)
    inner = path.time(torch.from_numpy(np.linspace(*path.log_snr_range(), points))).tolist()
    ends = [t if np.isfinite(path.log_snr(t)) else inner[k] for t, k in ((path.t_start, 0), (path.t_end, -1))]
    return [ends[0], *inner[1:-1], ends[1]]


def entry_groups(spec: StateSpec, pool: str = "auto") -> NDArray[np.int64]:
    """The group of each entry of a state, of a shape that broadcasts to one sample.

    ``"entry"``: each its own; ``"channel"``: one for each index of the first axis; ``"auto"``: entries, and channels
    above :data:`MANY` of them. Nodes and pairs of nodes are alike in any case.
    """
    if pool not in POOLS:
        raise UnknownNameError("pool", pool, POOLS)
    if len(spec.leaves) == 1 and not (spec.masked or spec.leaves[0].symmetric):
        if pool == "channel" or (pool == "auto" and spec.size > MANY):
            return np.arange(spec.shape[0]).reshape(-1, *[1] * (len(spec.shape) - 1))
        return np.arange(spec.size).reshape(spec.shape)
    labels, count = [], 0
    for leaf in spec.leaves:
        own = np.arange(leaf.size).reshape(leaf.shape)
        if leaf.symmetric:
            own = np.minimum(own, own.swapaxes(0, 1))
        if leaf.mask_axes:
            diagonal = (
                np.eye(leaf.shape[0], dtype=np.int64).reshape(*leaf.shape[:2], *[1] * (len(leaf.shape) - 2))
                if len(leaf.mask_axes) == 2
                else 0
            )
            first = tuple(slice(0, 1) if axis in leaf.mask_axes else slice(None) for axis in range(len(leaf.shape)))
            own = np.broadcast_to(own[first], leaf.shape) + leaf.size * diagonal
        _, own = np.unique(own, return_inverse=True)
        labels.append(own.reshape(-1) + count)
        count += int(own.max()) + 1
    return np.concatenate(labels).reshape(spec.shape)


def estimate(
    denoiser: Denoiser, spec: StateSpec, sampled: Sampled, times: Sequence[float], pool: str = "auto",
    spending: Spending | None = None,
) -> Statistics:  # fmt: skip
    """The statistics of a denoiser at ``times``.

    Raises:
        AnydiffError: a path with known sources, or a statistic that is not finite (names time and entries).
        SpentError: the time is spent.
    """
    path = denoiser.gaussian_path
    if path.known:
        raise AnydiffError(
            f"statistics of DPM-Solver-v3 are not taken on {path!r}, whose states hold the known {path.known[0]}; "
            "calibrate with --method dc."
        )
    groups = entry_groups(spec, pool)
    rows = [_moments(denoiser, spec, sampled, float(t), groups, spending) for t in times]
    jacobian, mean, product, own = (np.stack(each) for each in zip(*rows, strict=True))
    linear = 1 - jacobian
    slope = np.gradient(linear, axis=0) / np.gradient(own, axis=0)
    # The factors of (y, D, D1) in f and in f1.
    zero, one = np.zeros_like(linear), np.ones_like(linear)
    f = np.stack([1 - linear, -one, zero], axis=1)
    f1 = np.stack([linear - 1 - slope, 1 - linear, -one], axis=1)
    covariance = product - mean[:, :, None] * mean[:, None]
    variance, common = (np.einsum("pig,pijg,pjg->pg", f, covariance, other) for other in (f, f1))
    spread = np.einsum("pig,piig->pg", f**2, product)
    varies = variance > VANISHING * spread
    scale = np.where(varies, common / np.where(varies, variance, 1.0), 0.0)
    expected, expected1 = ((factors * mean).sum(1) for factors in (f, f1))
    log_snr = np.array([path.log_snr(float(t)) for t in times])
    shift = expected1 - scale * expected
    return Statistics(np.array(times, dtype=np.float64), log_snr, linear, scale, shift, groups)


def _moments(
    denoiser: Denoiser, spec: StateSpec, sampled: Sampled, t: float, groups: NDArray[np.int64],
    spending: Spending | None,
) -> tuple[Statistic, Statistic, Statistic, Statistic]:  # fmt: skip
    """At one time and for each group: α dD/dx, the means of (y, D, D1), those of their products, and λ.

    A group without any entry that is present has no part in a law: its Jacobian counts as 0, and so do its means.
    """
    labels = torch.from_numpy(np.broadcast_to(groups, spec.shape).copy()).reshape(-1)
    size, sums, count = int(groups.max()) + 1, None, torch.zeros(0)
    alpha, log_snr = _levels(denoiser.gaussian_path, t, spec)
    for begin in range(0, len(sampled.clean), sampled.batch):
        if spending is not None:
            spending.check(0)
        part = slice(begin, begin + sampled.batch)
        condition = sampled.condition.rows(part)
        there = spec.present(condition.mask).double() if spec.has_absent_entries else torch.ones(1, *spec.shape)
        there = there.to(sampled.clean.device).expand(len(sampled.clean[part]), *spec.shape)
        y, data, change, jacobian = _looked_at(denoiser, spec, sampled, t, part, condition)
        parts = (y, data, change)
        looked = [there, alpha * jacobian, *parts, *(a * b for a in parts for b in parts)]
        own = torch.stack([(each * there).sum(0).reshape(-1) for each in looked]).cpu()
        sums = own if sums is None else sums + own
    assert sums is not None
    pooled = torch.zeros(len(sums), size, dtype=torch.float64).index_add(1, labels, sums)
    count = pooled[0].clamp_min(1)
    jacobian, *rest = (pooled[1:] / count).numpy()
    level = np.zeros(size)
    level[labels.numpy()] = np.broadcast_to(log_snr, spec.shape).reshape(-1)
    found = np.array(rest)
    if not np.isfinite(found).all() or not np.isfinite(jacobian).all():
        bad = int(np.nonzero(~(np.isfinite(found).all(0) & np.isfinite(jacobian)))[0][0])
        raise AnydiffError(
            f"the statistics are not finite at t={t:g}, first in entry {int((labels == bad).nonzero()[0])} of a state; "
            "check the network there, or start later."
        )
    return jacobian, found[:3], found[3:].reshape(3, 3, size), level


def _looked_at(
    denoiser: Denoiser, spec: StateSpec, sampled: Sampled, t: float, part: slice, condition: Conditioning
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, D, D1 and the diagonal of dD/dx for some rows, float64."""
    path = denoiser.gaussian_path
    clean, noise = sampled.clean[part], sampled.noise[part]
    x = (path.alpha(t) * clean + path.sigma(t) * noise).to(clean.dtype)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        data = denoiser(x, t, condition)
        diagonal = torch.zeros_like(x)
        for k, probe in enumerate(sampled.probes):
            sign = probe[part].to(x)
            last = k + 1 == len(sampled.probes)
            (back,) = torch.autograd.grad((data * sign).sum(), x, retain_graph=not last)
            diagonal += sign * back / len(sampled.probes)
    with torch.no_grad():
        x, data = x.detach().double(), data.detach().double()
        alpha, sigma = path.alpha(t), path.sigma(t)
        y = x / alpha
        noised = (x - alpha * data) / sigma  # ε
        low, high = (_beside(path, t, reach) for reach in (-REACH, REACH))
        ends = []
        for each in (low, high):
            a, b = path.alpha(each), path.sigma(each)
            moved = a * (y + (b / a - sigma / alpha) * noised)  # along dy/dκ = ε
            ends.append(denoiser(moved.to(clean.dtype), each, condition).double())
        lengths = _levels(path, high, spec)[1] - _levels(path, low, spec)[1]
        change = (ends[1] - ends[0]) / torch.as_tensor(lengths).to(ends[0])
    return y, data, change, diagonal.double()


def _beside(path: GaussianPath, t: float, reach: float) -> float:
    """The time a little further along λ, within the path's own range."""
    moved = float(path.time(path.log_snr(t) + reach))
    return min(max(moved, path.t_end), path.t_start) if path.log_snr(path.t_end) < float("inf") else moved


def _levels(path: GaussianPath, t: float, spec: StateSpec) -> tuple[Any, Any]:
    """α and λ at a time: numbers, or one value per entry on a product path."""
    alpha: Any = path.alpha(t)
    if isinstance(alpha, Tensor):
        return alpha.double(), (alpha.double() / path.sigma(t)).log()[0].numpy()
    return alpha, path.log_snr(t)
