"""Times that require a gradient: coefficients, their derivatives, drift, g², the inverse; and times that do not fit."""

from __future__ import annotations

import math

import pytest
import torch
from exact import PATHS

from anydiff.errors import AnydiffError
from anydiff.paths import ExponentialVE, MeanReverting, ProductPath, VPLinear
from anydiff.paths.base import per_row
from anydiff.states import Leaf, StateSpec

ALL = PATHS | {"mean-reverting": MeanReverting(), "exponential-ve": ExponentialVE()}
METHODS = ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "drift", "squared_diffusion")


def slope(function, t: float, h: float) -> float:
    return (8 * (function(t + h) - function(t - h)) - (function(t + 2 * h) - function(t - 2 * h))) / (12 * h)


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("method", METHODS)
def test_each_quantity_has_the_gradient_that_finite_differences_say(name, method):
    """Detached times gave d/dt of drift and g² as if α' and σ' were constants."""
    path = ALL[name]
    function = getattr(path, method)
    for share in (0.2, 0.5, 0.9):
        t = path.t_end + share * (path.t_start - path.t_end)
        point = torch.tensor([t], dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(function(point).sum(), point)
        expected = slope(function, t, 1e-3 * min(t, path.t_start - t))
        size = max(abs(expected), abs(function(t)) / path.t_start)
        assert abs(float(found) - expected) <= 1e-5 * size + 1e-12, (t, float(found), expected)


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_inverse_of_the_log_snr_has_the_gradient_of_an_inverse(name):
    path = ALL[name]
    level = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    times = path.time(level)
    (found,) = torch.autograd.grad(times.sum(), level)
    for at, value in zip(level.tolist(), found.tolist(), strict=True):
        assert value == pytest.approx(slope(path.time, at, 1e-3), rel=1e-6)
    assert times.tolist() == [path.time(at) for at in level.tolist()]


def test_second_derivatives_through_a_product_path():
    spec = StateSpec([Leaf("a", (1,)), Leaf("b", (2,))])
    path = ProductPath((("a", VPLinear()), ("b", VPLinear(beta_max=5.0)))).bind(spec)
    t = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    rows = path.squared_diffusion(t)
    for column, own in ((0, VPLinear()), (2, VPLinear(beta_max=5.0))):
        (found,) = torch.autograd.grad(rows[0, column], t, retain_graph=True)
        assert float(found) == pytest.approx(own.beta_max - own.beta_min, rel=1e-9)  # g² = β(t)


@pytest.mark.parametrize("name", sorted(ALL))
def test_numbers_are_the_same_with_and_without_a_gradient(name):
    path = ALL[name]
    times = torch.linspace(path.t_end, path.t_start, 9, dtype=torch.float64)[1:-1]
    for method in METHODS:
        plain, tracked = (getattr(path, method)(t) for t in (times, times.clone().requires_grad_()))
        assert torch.equal(plain, tracked.detach())
        assert not plain.requires_grad


def test_times_of_two_axes_are_refused_where_rows_would_be_mixed():
    """t [4, 2] over x0 [8, 2, 8] was flattened to eight rows, each with another row's time."""
    x = torch.zeros(8, 2, 8)
    with pytest.raises(AnydiffError, match=r"t has shape \(4, 2\), but must be \[B\]"):
        VPLinear().mix(torch.full((4, 2), 0.5), x0=x, noise=x)
    for shape in ((4, 2), (4,), (2, 2, 2), (8, 3, 8)):
        with pytest.raises(AnydiffError, match="a coefficient has shape"):
            per_row(torch.ones(shape), x)
    for shape in ((), (1,), (8,), (1, 2, 8), (8, 2, 8), (8, 1, 1)):
        assert (per_row(torch.ones(shape), x) * x).shape == x.shape


def test_a_scale_is_not_cut_on_states_of_whole_numbers():
    """1.5 became 1."""
    states = torch.tensor([[2, 4], [6, 8]])
    scaled = per_row(torch.tensor([1.5, 0.5]), states) * states
    assert scaled.tolist() == [[3.0, 6.0], [3.0, 4.0]]
    mixed = VPLinear().mix(torch.tensor([0.5, 0.5]), x0=states, noise=torch.zeros(2, 2))
    assert mixed[0, 0].item() == pytest.approx(2 * VPLinear().alpha(0.5), rel=1e-6)


def test_a_source_that_is_missing_is_named():
    with pytest.raises(AnydiffError, match="is made of x0, mu, noise, but mu is missing"):
        MeanReverting().mix(torch.tensor([0.5]), x0=torch.zeros(1, 2), noise=torch.zeros(1, 2))


def test_the_likelihood_weight_by_autograd():
    """A use: d/dt log-SNR through sigma and alpha, as variational bounds need it."""
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    path = VPLinear()
    (found,) = torch.autograd.grad(torch.log(path.alpha(t) / path.sigma(t)), t)
    g2 = path.squared_diffusion(0.3)
    assert float(found) == pytest.approx(-g2 / 2 / path.sigma(0.3) ** 2, rel=1e-9)
    assert math.isfinite(float(found))
