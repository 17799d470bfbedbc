"""Conversions, networks with a parametrisation, and exact oracles against integration, autograd and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_conversions, check_mixture, check_network_parametrization
from exact import CENTRES, MEAN, PATHS, affine, gaussian, mixture
from torch import nn

from anydiff.denoisers import (
    FunctionDenoiser,
    GaussianMixtureOracle,
    GaussianOracle,
    LinearGaussianOracle,
    NetworkDenoiser,
    as_denoiser,
    conversion,
)
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import EDM, Flow, VPLinear
from anydiff.solvers import compile_plan, execute
from anydiff.states import UNCONDITIONAL, Conditioning

#: Every kind of prediction on a path of data and Gaussian noise.
KINDS = VPLinear().kinds

NAMES = sorted(PATHS)


@pytest.mark.parametrize("name", NAMES)
def test_conversions_between_all_kinds(name):
    check_conversions(PATHS[name])


@pytest.mark.parametrize("name", NAMES)
def test_conversions_of_tensors_of_times_equal_those_of_numbers(name):
    path = PATHS[name]
    share = torch.linspace(0.05, 0.95, 5, dtype=torch.float64)
    t = path.t_end + share * (path.t_start - path.t_end)
    for source in KINDS:
        for target in KINDS:
            p, q = conversion(path, t, source, target, 0.7)
            for index, time in enumerate(t.tolist()):
                single = conversion(path, time, source, target, 0.7)
                assert math.isclose(float(p[index]), single[0], rel_tol=1e-9, abs_tol=1e-12)
                assert math.isclose(float(q[index]), single[1], rel_tol=1e-9, abs_tol=1e-12)


def test_edm_coefficients_are_table_1():
    """c_skip = s²/(σ² + s²), c_out = σ s/√(σ² + s²), with s = sigma_data (Karras et al. 2022, table 1)."""
    for sigma in (0.002, 0.5, 80.0):
        p, q = conversion(EDM(), sigma, "edm", "data", 0.5)
        assert math.isclose(p, 0.25 / (sigma**2 + 0.25), rel_tol=1e-12)
        assert math.isclose(q, sigma * 0.5 / math.sqrt(sigma**2 + 0.25), rel_tol=1e-12)


def test_sheet_rows():
    """The conversion rows of the solver sheet: v on VP, flow matching."""
    vp, flow = VPLinear(), Flow()
    p, q = conversion(vp, 0.3, "velocity", "data")
    assert math.isclose(p, vp.alpha(0.3), rel_tol=1e-12)
    assert math.isclose(q, -vp.sigma(0.3), rel_tol=1e-12)
    p, q = conversion(flow, 0.3, "flow", "data")
    assert math.isclose(p, 1.0, rel_tol=1e-12)
    assert math.isclose(q, -0.3, rel_tol=1e-12)


@pytest.mark.parametrize("kind", ["noise", "score"])
def test_pure_noise_does_not_determine_the_data(kind):
    with pytest.raises(AnydiffError, match="t=1"):
        conversion(Flow(), 1.0, kind, "data")
    for other in ("velocity", "flow", "edm"):
        assert all(map(math.isfinite, conversion(Flow(), 1.0, other, "data")))


def test_clean_data_has_no_noise_prediction():
    with pytest.raises(AnydiffError, match="t=0"):
        conversion(VPLinear(), 0.0, "data", "noise")
    assert conversion(VPLinear(), 0.0, "noise", "data") == (1.0, 0.0)


def test_unknown_kinds():
    with pytest.raises(UnknownNameError, match="did you mean 'velocity'"):
        conversion(VPLinear(), 0.5, "velocty", "data")
    with pytest.raises(UnknownNameError, match="parametrization"):
        NetworkDenoiser(nn.Identity(), VPLinear(), "epsilon")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_perfect_network_of_every_parametrization_equals_the_oracle(name, kind):
    check_network_parametrization(PATHS[name], kind)


def test_network_input_has_unit_scale_and_its_time_is_the_log_snr():
    seen = {}

    class Spy(nn.Module):
        def forward(self, x, log_snr, condition=UNCONDITIONAL):
            seen.update(x=x, log_snr=log_snr, condition=condition)
            return x

    path = EDM()
    denoiser = NetworkDenoiser(Spy(), path, "data", sigma_data=0.5)
    x = torch.ones(3, 2)
    denoiser(x, 0.5, Conditioning({"label": torch.arange(3)}))
    assert seen["log_snr"].shape == (3,)
    assert seen["log_snr"].dtype == torch.float32
    torch.testing.assert_close(seen["log_snr"], torch.full((3,), math.log(2.0)))
    torch.testing.assert_close(seen["x"], x / math.sqrt(0.5))
    assert torch.equal(seen["condition"].given["label"], torch.arange(3))
    denoiser(x, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(seen["log_snr"], -torch.tensor([0.5, 1.0, 2.0]).log())
    clean = torch.full((100, 50), 0.0).normal_(generator=torch.Generator().manual_seed(0)) * 0.5
    noise = torch.empty(100, 50).normal_(generator=torch.Generator().manual_seed(1))
    for t in (0.01, 0.5, 40.0):
        denoiser(path.mix(torch.full((100,), t), x0=clean, noise=noise), t)
        assert abs(float(seen["x"].std()) - 1) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_mixture_against_integration_and_autograd(name):
    check_mixture(PATHS[name])


@pytest.mark.parametrize("name", NAMES)
def test_mixture_of_one_is_the_gaussian(name):
    path = PATHS[name]
    x = path.prior_std * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = GaussianMixtureOracle(path, MEAN[None], 0.4)
    other = GaussianOracle(path, MEAN, torch.full((2,), 0.16, dtype=torch.float64))
    for t in (path.t_end, 0.5 * path.t_start, path.t_start):
        torch.testing.assert_close(one(x, t), other(x, t), rtol=1e-10, atol=1e-12)


def test_conditional_mixture_is_the_mixture_of_the_class():
    path = VPLinear()
    classes = torch.tensor([0, 1, 1])
    oracle = GaussianMixtureOracle(path, CENTRES, 0.3, torch.tensor([1.0, 2.0, 3.0]), classes)
    alone = GaussianMixtureOracle(path, CENTRES[1:], 0.3, torch.tensor([2.0, 3.0]))
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.ones(4, dtype=torch.long)
    torch.testing.assert_close(oracle(x, 0.4, Conditioning({"label": label})), alone(x, 0.4), rtol=1e-12, atol=0)
    absent = torch.zeros(4, dtype=torch.bool)
    hidden = Conditioning({"label": label}, {"label": absent})
    torch.testing.assert_close(oracle(x, 0.4, hidden), oracle(x, 0.4), rtol=0, atol=0)


def test_mixture_draws_have_its_moments():
    oracle = mixture(VPLinear())
    draws = oracle.sample(40000, torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / 6
    mean = weights @ CENTRES
    second = torch.einsum("k,ki,kj->ij", weights, CENTRES, CENTRES) + 0.09 * torch.eye(2)
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(draws.T @ draws / len(draws), second, rtol=0, atol=0.03)
    assert float((oracle.sample(100, torch.Generator().manual_seed(0), label=0) - CENTRES[0]).norm(dim=1).max()) < 1.5


def test_full_covariance_equals_conditioning_of_the_joint_gaussian():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    covariance, mean = root @ root.T, torch.randn(3, dtype=torch.float64, generator=generator)
    path, t = VPLinear(), 0.35
    alpha, sigma = path.alpha(t), path.sigma(t)
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(3, dtype=torch.float64))
    expected = mean + (x - alpha * mean) @ gain.T
    torch.testing.assert_close(GaussianOracle(path, mean, covariance)(x, t), expected, rtol=1e-10, atol=1e-10)


def linear_gaussian():
    generator = torch.Generator().manual_seed(5)
    root = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    covariance = root @ root.T / 3 + 0.1 * torch.eye(3)
    mean = torch.randn(3, dtype=torch.float64, generator=generator)
    operator = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    return mean, covariance, operator, LinearGaussianOracle(VPLinear(), mean, covariance, operator, 0.3)


def test_linear_gaussian_posterior_in_information_form():
    mean, covariance, operator, oracle = linear_gaussian()
    precision = torch.linalg.inv(covariance) + operator.T @ operator / 0.09
    torch.testing.assert_close(oracle.covariance, torch.linalg.inv(precision), rtol=1e-9, atol=1e-10)
    y = torch.tensor([[0.4, -1.0]], dtype=torch.float64)
    right = torch.linalg.inv(covariance) @ mean + operator.T @ y[0] / 0.09
    torch.testing.assert_close(oracle.posterior(y)[0], torch.linalg.solve(precision, right), rtol=1e-9, atol=1e-9)


def test_sampling_draws_from_the_linear_gaussian_posterior():
    """Deterministic sampling is affine in the start, so its law is found by pushing a basis through it."""
    _, _, _, oracle = linear_gaussian()
    measurement = torch.tensor([0.4, -1.0], dtype=torch.float64).expand(4, 2)
    start = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double() * oracle.path.prior_std
    plan = compile_plan("dpm-solver++-2m", oracle.path, 600)
    out = execute(plan, oracle, start, condition=Conditioning({"measurement": measurement}))
    columns = out[1:] - out[0]
    torch.testing.assert_close(out[0], oracle.posterior(measurement)[0], rtol=0, atol=2e-2)
    torch.testing.assert_close(columns.T @ columns, oracle.covariance, rtol=0, atol=1e-3)


def test_measurement_is_demanded():
    oracle = linear_gaussian()[3]
    with pytest.raises(AnydiffError, match="measurement"):
        oracle(torch.zeros(1, 3), 0.5)


def test_oracles_work_in_the_dtype_of_the_state():
    for oracle in (gaussian(VPLinear()), mixture(VPLinear())):
        x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
        single, double = oracle(x, 0.3), oracle(x.double(), 0.3)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


def test_oracles_take_a_time_per_row():
    for path in PATHS.values():
        t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64) * path.t_start
        x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for oracle in (gaussian(path), mixture(path)):
            rows = [oracle(x[i : i + 1], float(t[i])) for i in range(3)]
            torch.testing.assert_close(oracle(x, t), torch.cat(rows), rtol=1e-11, atol=1e-12)


def test_functions_become_denoisers():
    path = VPLinear()
    assert torch.equal(as_denoiser(lambda x, t: x * t, path)(torch.ones(2, 2), 0.5), torch.full((2, 2), 0.5))
    oracle = gaussian(path)
    assert as_denoiser(oracle, path) is oracle
    noise = FunctionDenoiser(lambda x, t: oracle.predict(x, t, "noise"), path, "noise")
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise(x, 0.4), oracle(x, 0.4), rtol=1e-12, atol=1e-12)


def test_prediction_of_any_kind_is_differentiable():
    """The gradient through the conversion is the finite difference, and the state is not written to."""
    oracle = mixture(VPLinear())
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = x.detach().clone()
    for kind in KINDS:
        assert torch.autograd.gradcheck(lambda y, kind=kind: oracle.predict(y, 0.4, kind), (x,))
    constant = FunctionDenoiser(lambda y, t: torch.zeros_like(y), VPLinear(), "noise")
    assert torch.autograd.gradcheck(lambda y: constant(y, 0.4), (x,))
    assert torch.equal(x.detach(), before)


def test_affine_helper_agrees_with_execution():
    """The proofs' own tool: pushing a basis through a plan gives the weights that the tool computes."""
    path = VPLinear()
    plan = compile_plan("dpm-solver++-2m", path, 10)
    oracle = GaussianOracle(path, torch.tensor([0.3]), torch.tensor([0.25]))
    start = torch.tensor([[0.0], [path.prior_std]], dtype=torch.float64)
    out = execute(plan, oracle, start)[:, 0]
    constant, weight = affine(plan, path, float(oracle.mean), 0.25)
    torch.testing.assert_close(out, torch.tensor([constant, constant + weight]), rtol=1e-12, atol=1e-13)
