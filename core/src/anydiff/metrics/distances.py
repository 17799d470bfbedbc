"""Distances between two sets of feature vectors, for the metrics of any domain; in float64, independent of order.

Features are float64 tensors ``[N, F]``: of a named network, or the states themselves. What the features are belongs
into the metric's card; what is computed of them stands here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.states import standard_normal

_ROWS = 512


def frechet_distance(first: Tensor, second: Tensor) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance of the Gaussians fitted to two feature sets ``[N, F]`` and ``[M, F]``.

    .. math:: |μ_1 - μ_2|^2 + \operatorname{tr} Σ_1 + \operatorname{tr} Σ_2 - 2 \operatorname{tr} (Σ_1 Σ_2)^{1/2}

    With Σ = RᵀR (QR of the centred features; covariances divide by N - 1) the last trace is the nuclear norm of R_1
    R_2ᵀ, so no matrix root is taken and singular covariances lose no digits. Zero for equal sets, biased upwards for
    finite N: compare values of one N only.

    Source: Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X; for features, Heusel et al. 2017, arXiv:1706.08500.

    Raises:
        AnydiffError: fewer than two rows, or different numbers of features.
    """
    _check(first, second, 2)
    means, roots = [], []
    for features in (first, second):
        values = features.to(torch.float64)
        mean = values.mean(dim=0)
        means.append(mean)
        roots.append(torch.linalg.qr(values - mean, mode="r").R / (len(values) - 1) ** 0.5)
    trace = sum(float(root.square().sum()) for root in roots)
    overlap = float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum())
    return max(0.0, float((means[0] - means[1]).square().sum()) + trace - 2 * overlap)


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / F + 1)³ of ``[N, F]`` and ``[M, F]``.

    Its expectation does not depend on N and M (U-statistic), so small sets can be compared with large ones; it may be
    slightly negative.

    Source: Bińkowski et al. 2018, arXiv:1801.01401 (kernel inception distance, here without its blocks).

    Raises:
        AnydiffError: fewer than two rows, or different numbers of features.
    """
    _check(first, second, 2)
    first, second = first.to(torch.float64), second.to(torch.float64)

    def total(left: Tensor, right: Tensor) -> float:
        return math.fsum(
            float(((rows @ right.T) / left.shape[1] + 1).pow(3).sum()) for rows in torch.split(left, _ROWS)
        )

    def within(values: Tensor) -> float:
        diagonal = float((values.square().sum(dim=1) / values.shape[1] + 1).pow(3).sum())
        return (total(values, values) - diagonal) / (len(values) * (len(values) - 1))

    return within(first) + within(second) - 2 * total(first, second) / (len(first) * len(second))


def sliced_wasserstein(first: Tensor, second: Tensor, projections: int = 128) -> float:
    """Sliced 2-Wasserstein distance of two sets of as many feature vectors, both ``[N, F]``; in the features' units.

    The root of the mean over directions of the squared distance of the sorted projections. The directions are the same
    at every call. Biased upwards by about 1/sqrt(N): compare with what two sets of one law give.

    Source: Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3.

    Raises:
        AnydiffError: different numbers of rows or features, or none.
    """
    _check(first, second, 1)
    if len(first) != len(second):
        raise AnydiffError(f"the sets have {len(first)} and {len(second)} rows; give equally many of both.")
    drawn = standard_normal(0, range(projections), 0, "sliced-wasserstein", (first.shape[1],))
    directions = torch.nn.functional.normalize(torch.from_numpy(drawn), dim=1).T
    sorted_ = [(features.to(torch.float64).cpu() @ directions).sort(dim=0).values for features in (first, second)]
    return float((sorted_[0] - sorted_[1]).square().mean().sqrt())


def precision_recall(samples: Tensor, reference: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall of ``samples [N, F]`` against ``reference [M, F]``, both in [0, 1].

    A set's manifold is the union of balls around its points, each reaching to its k-th nearest neighbour in the set
    (itself not counted). Precision: share of samples in the reference's manifold. Recall: share of the reference in
    the samples'. Both depend on N and M: compare values of one N and M only.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991.

    Raises:
        AnydiffError: not more rows than ``neighbours``, or different numbers of features.
    """
    _check(samples, reference, neighbours + 1)
    return Manifold(reference, neighbours).share(samples), Manifold(samples, neighbours).share(reference)


class Manifold:
    """The union of balls around points ``[M, F]``, each reaching to its k-th nearest neighbour; float64.

    Args:
        points: more than ``neighbours`` of them.
        neighbours: k.
    """

    def __init__(self, points: Tensor, neighbours: int = 3) -> None:
        _check(points, points, neighbours + 1)
        self.points = points.to(torch.float64)
        self.radii = _radii(self.points, neighbours)

    def share(self, points: Tensor) -> float:
        """The share of ``points [N, F]`` that lie inside, in [0, 1]."""
        parts = torch.split(points.to(torch.float64), _ROWS)
        counts = [int((_distances(rows, self.points) <= self.radii).any(dim=1).sum()) for rows in parts]
        return sum(counts) / len(points)


def _distances(left: Tensor, right: Tensor) -> Tensor:
    # Differences, not |x|² + |y|² - 2 x·y: the latter loses the digits that tell a point from its copy.
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """Distance of each point to its k-th nearest other one, ``[N]``."""
    radii = [_distances(rows, points).kthvalue(neighbours + 1, dim=1).values for rows in torch.split(points, _ROWS)]
    return torch.cat(radii)


def _check(first: Tensor, second: Tensor, least: int) -> None:
    for features in (first, second):
        if features.ndim != 2 or features.shape[1] != first.shape[1]:
            raise AnydiffError(
                f"feature sets of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared; "
                "give [N, F] and "
                "[M, F] of one network."
            )
        if len(features) < least:
            raise AnydiffError(f"a feature set has {len(features)} rows, but this distance needs at least {least}.")
