"""Paths against closed forms, 40-digit arithmetic, finite differences and their own forward process."""

from __future__ import annotations

import math
import warnings

import mpmath
import pytest
import torch
from checks import check_closed_forms, check_derivatives, check_inverse_log_snr, check_stochastic_equation
from exact import PATHS
from hypothesis import given
from hypothesis import strategies as st

from anydiff.errors import AnydiffError
from anydiff.paths import EDM, VE, ExponentialVE, Flow, SubVP, VPCosine, VPLinear, VPLogSNR

NAMES = sorted(PATHS)


@pytest.mark.parametrize("name", NAMES)
def test_closed_forms(name):
    check_closed_forms(PATHS[name])


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name):
    check_derivatives(PATHS[name])


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_equation(name):
    check_stochastic_equation(PATHS[name])


@pytest.mark.parametrize("name", NAMES)
@given(share=st.floats(0, 1))
def test_inverse_of_log_snr(name, share):
    path = PATHS[name]
    check_inverse_log_snr(path, path.t_end + share * (path.t_start - path.t_end))


@given(exponent=st.floats(-7, -1))
@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "sub-vp", "edm", "flow"])
def test_inverse_of_log_snr_far_below_the_end(name, exponent):
    check_inverse_log_snr(PATHS[name], 10.0**exponent)


def precise(name: str, t: float):
    """(α, σ) in 50 digits."""
    mpmath.mp.dps = 50
    t = mpmath.mpf(t)
    rate = mpmath.mpf(0.1) * t + (mpmath.mpf(20.0) - mpmath.mpf(0.1)) * t**2 / 2
    if name == "vp-linear":
        return mpmath.exp(-rate / 2), mpmath.sqrt(1 - mpmath.exp(-rate))
    if name == "sub-vp":
        return mpmath.exp(-rate / 2), 1 - mpmath.exp(-rate)
    if name == "vp-cosine":
        s = mpmath.mpf(0.008)
        alpha = mpmath.cos((t + s) / (1 + s) * mpmath.pi / 2) / mpmath.cos(s / (1 + s) * mpmath.pi / 2)
        return alpha, mpmath.sqrt(1 - alpha**2)
    low = mpmath.mpf(6.5) - 10 * t - 2 * t**2
    return 1 / mpmath.sqrt(1 + mpmath.exp(-2 * low)), 1 / mpmath.sqrt(1 + mpmath.exp(2 * low))


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "sub-vp", "vp-log-snr"])
@pytest.mark.parametrize("t", [1e-7, 1e-5, 1e-3, 0.02, 0.3, 0.7, 0.99])
def test_all_digits_near_the_data(name, t):
    """σ and λ keep their digits where 1 - α² would cancel."""
    path = PATHS[name]
    alpha, sigma = precise(name, t)
    assert abs(path.alpha(t) / alpha - 1) < 1e-14
    assert abs(path.sigma(t) / sigma - 1) < 1e-12
    assert abs(path.log_snr(t) - mpmath.log(alpha / sigma)) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_float_and_tensor_calls_agree(name):
    path = PATHS[name]
    times = torch.linspace(path.t_end, path.t_start, 17, dtype=torch.float64)
    for method in ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "drift", "squared_diffusion"):
        function = getattr(path, method)
        if path.alpha(path.t_start) == 0 and method in ("drift", "squared_diffusion"):
            times = times[:-1]
        values = function(times.reshape(1, -1))
        assert values.shape == (1, len(times))
        assert values.dtype == torch.float64
        single = [function(float(t)) for t in times]
        assert all(type(value) is float for value in single)
        torch.testing.assert_close(values[0], torch.tensor(single, dtype=torch.float64), rtol=1e-14, atol=0)
    assert path.alpha(times.float()).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_caller_keeps_its_tensor(name):
    path = PATHS[name]
    times = torch.linspace(path.t_end, path.t_start, 5, dtype=torch.float64)
    before = times.clone()
    for method in ("alpha", "sigma", "log_snr"):
        getattr(path, method)(times).mul_(7.0)
    assert torch.equal(times, before)


@pytest.mark.parametrize("name", NAMES)
def test_forward_moments_by_sampling(name):
    path = PATHS[name]
    generator = torch.Generator().manual_seed(0)
    count = 40000
    clean = 0.5 + 0.3 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    t = path.t_end + 0.4 * (path.t_start - path.t_end)
    x = path.mix(torch.full((count,), t), x0=clean, noise=noise)
    alpha, sigma = path.alpha(float(torch.tensor(t))), path.sigma(float(torch.tensor(t)))
    std = math.sqrt(alpha**2 * 0.09 + sigma**2)
    assert abs(float(x.mean()) - 0.5 * alpha) < 4.5 * std / math.sqrt(count)
    assert abs(float(x.var()) / std**2 - 1) < 4.5 * math.sqrt(2 / count)


def test_mix_per_sample_and_dtype():
    path = VPLinear()
    t = torch.tensor([0.1, 0.5, 0.9])
    clean, noise = torch.ones(3, 2, 2), torch.full((3, 2, 2), 2.0)
    x = path.mix(t, x0=clean, noise=noise)
    assert x.dtype == torch.float32
    expected = [path.alpha(float(v)) + 2 * path.sigma(float(v)) for v in t]
    torch.testing.assert_close(x[:, 0, 1], torch.tensor(expected))


def test_general_derivatives_are_the_gaussian_ones():
    path = SubVP()
    t = torch.tensor([0.2, 0.6], dtype=torch.float64)
    both = path.derivatives(t)
    assert torch.equal(both["x0"], path.d_alpha(t))
    assert torch.equal(both["noise"], path.d_sigma(t))


@pytest.mark.parametrize("name", NAMES)
def test_prior_is_reached_by_every_default(name):
    path = PATHS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(path.prior(torch.ones(2)), torch.full((2,), 1.0) * path.sigma(path.t_start))


@pytest.mark.parametrize("path", [VPLinear(t_start=0.5), EDM(t_start=10.0), Flow(t_start=0.9), VPLinear(beta_max=2.0)])
def test_prior_warns_where_it_is_not_reached(path):
    with pytest.warns(UserWarning, match="signal-to-noise"):
        path.prior(torch.ones(2))


def test_ends_of_the_flow_path():
    flow = Flow()
    assert (flow.alpha(1.0), flow.sigma(1.0)) == (0.0, 1.0)
    assert flow.log_snr(1.0) == -math.inf
    assert flow.log_snr(0.0) == math.inf
    assert flow.log_snr_range()[0] == -9.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: VPLinear(t_end=1.0),
        lambda: VPLinear(t_end=-0.1),
        lambda: VPLinear(beta_min=0.0),
        lambda: SubVP(beta_min=3.0, beta_max=2.0),
        lambda: VE(sigma_min=0.0),
        lambda: VE(sigma_min=3.0, sigma_max=2.0),
        lambda: EDM(t_end=90.0),
        lambda: Flow(t_start=1.5),
        lambda: VPCosine(t_start=1.5),
        lambda: VPLogSNR(lambda t: t * 2),
        lambda: EDM(t_end=float("nan")),
    ],
)
def test_bad_paths(make):
    with pytest.raises(AnydiffError):
        make()


def test_the_exponential_path_solves_its_equation_from_clean_data():
    times = torch.linspace(1e-4, 1, 50, dtype=torch.float64)
    for base in (1.5, 30.0):
        path = ExponentialVE(base)
        rate = 2 * math.log(base)
        torch.testing.assert_close(path.sigma(times) ** 2, (base ** (2 * times) - 1) / rate, rtol=1e-10, atol=0)
        torch.testing.assert_close(path.squared_diffusion(times), base ** (2 * times), rtol=1e-10, atol=0)
        torch.testing.assert_close(path.time(path.log_snr(times)), times, rtol=1e-10, atol=1e-14)
    assert ExponentialVE(30.0).sigma(1.0) == pytest.approx(11.5, abs=0.01)
    assert ExponentialVE(30.0).sigma(1e-3) == pytest.approx(0.0317, abs=1e-4)
    brownian = ExponentialVE(1 + 1e-9)
    torch.testing.assert_close(brownian.sigma(times) ** 2, times, rtol=1e-6, atol=0)
    with pytest.raises(AnydiffError, match="base is 1"):
        ExponentialVE(1.0)
