"""Distances of feature sets against closed forms."""

import math

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.metrics.distances import frechet_distance, kernel_distance, precision_recall


def exact_moments(count: int, mean: torch.Tensor, covariance: torch.Tensor, seed: int) -> torch.Tensor:
    """``count`` points whose sample mean and covariance (over N - 1) are exactly those given."""
    noise = torch.randn(count, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    noise -= noise.mean(dim=0)
    whitened = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / (count - 1))).T
    return mean + whitened @ torch.linalg.cholesky(covariance).T


def random_covariance(size: int, seed: int) -> torch.Tensor:
    root = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


def test_frechet_of_diagonal_gaussians():
    # Commuting covariances: sum of (m1 - m2)² + (s1 - s2)², by hand.
    first = exact_moments(50, torch.tensor([0.0, 1.0]).double(), torch.diag(torch.tensor([1.0, 4.0])).double(), 0)
    second = exact_moments(70, torch.tensor([3.0, 1.0]).double(), torch.diag(torch.tensor([9.0, 0.25])).double(), 1)
    assert frechet_distance(first, second) == pytest.approx(9 + 4 + 2.25, abs=1e-10)


def test_frechet_of_general_gaussians_against_matrix_square_root():
    scipy_linalg = pytest.importorskip("scipy.linalg")
    one, two = random_covariance(6, 2), random_covariance(6, 3)
    shift = torch.arange(6, dtype=torch.float64)
    root = torch.from_numpy(scipy_linalg.sqrtm((one @ two).numpy()).real)
    expected = float(shift.square().sum() + torch.trace(one + two - 2 * root))
    first, second = exact_moments(100, torch.zeros(6).double(), one, 4), exact_moments(80, shift, two, 5)
    assert frechet_distance(first, second) == pytest.approx(expected, abs=1e-9)


def test_frechet_identity_symmetry_order_and_singular_covariances():
    features = torch.randn(300, 40, generator=torch.Generator().manual_seed(6)).relu()
    features[:, 30:] = 0  # dead features: singular covariance
    other = torch.randn(200, 40, generator=torch.Generator().manual_seed(7))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features, other) == pytest.approx(frechet_distance(other, features), rel=1e-12)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(8))
    assert frechet_distance(features[order], other) == pytest.approx(frechet_distance(features, other), rel=1e-12)
    assert frechet_distance(features + 2, features) == pytest.approx(4 * 40, rel=1e-6)


def test_frechet_with_fewer_points_than_features():
    features = torch.randn(10, 40, generator=torch.Generator().manual_seed(9)).double()
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features, 2 * features + 1) > 0


def test_kernel_distance_by_hand_and_in_expectation():
    first, second = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    # k(x, y) = (xy + 1)³; within: k(0,1) = 1 and k(2,3) = 343; across: 1, 1, 27, 64.
    assert kernel_distance(first, second) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)
    generator = torch.Generator().manual_seed(10)
    draws = [
        kernel_distance(torch.randn(20, 3, generator=generator), torch.randn(30, 3, generator=generator))
        for _ in range(300)
    ]
    error = torch.tensor(draws).std().item() / math.sqrt(len(draws))
    assert abs(torch.tensor(draws).mean().item()) < 4 * error, "the estimate is unbiased: zero for equal distributions"


def test_precision_and_recall_of_known_cases():
    grid = torch.arange(10.0)[:, None]
    assert precision_recall(grid, grid) == (1.0, 1.0)
    assert precision_recall(grid, grid + 1000) == (0.0, 0.0)
    cluster = torch.linspace(0, 0.1, 10)[:, None]
    both = torch.cat([cluster, cluster + 100])
    assert precision_recall(cluster, both) == (1.0, 0.5), "samples of one mode: all good, half of the data missed"
    assert precision_recall(both, cluster) == (0.5, 1.0)


def test_the_radius_reaches_the_kth_other_point():
    reference = torch.tensor([[0.0], [1.0], [2.0], [4.0]])  # third neighbours: 4, 3, 2, 4
    inside = torch.tensor([[8.0], [-4.0], [8.0], [8.0]])
    outside = torch.tensor([[8.1], [-4.1], [8.1], [8.1]])
    assert precision_recall(inside, reference)[0] == 1.0
    assert precision_recall(outside, reference)[0] == 0.0
    assert precision_recall(torch.tensor([[2.0], [3.0], [5.0]]), reference[:3], neighbours=1)[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, precision_recall])
def test_bad_feature_sets_are_refused(function):
    with pytest.raises(AnydiffError, match="rows"):
        function(torch.zeros(1, 3), torch.zeros(9, 3))
    with pytest.raises(AnydiffError, match="cannot be compared"):
        function(torch.zeros(9, 3), torch.zeros(9, 4))
