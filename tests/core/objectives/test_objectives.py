"""Objectives against exact values: posterior variances, minimisers, agreement between parametrisations, time laws."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser, GaussianOracle
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import TIME_LAWS, Denoising, FlowMatching, TimeLaw, denoising_energy
from anydiff.paths import EDM, VE, Flow, SubVP, VPCosine, VPLinear
from anydiff.states import Conditioning

#: Every kind of prediction on a path of data and Gaussian noise.
KINDS = VPLinear().kinds

PATHS = [VPLinear(), VPCosine(), SubVP(), VE(), EDM(), Flow()]
VARIANCE, MEAN, SIGMA_DATA = 0.36, 0.2, 0.6


class At(Denoising):
    """Every example at one time, so that the expectation is over data and noise alone."""

    def __init__(self, t: float, **options) -> None:
        super().__init__(**options)
        self.t = t

    def times(self, path, uniform):
        return torch.full_like(uniform, self.t)


class FlowAt(FlowMatching):
    """As :class:`At`, for flow matching."""

    def __init__(self, t: float) -> None:
        super().__init__()
        self.t = t

    times = At.times


def draws(count: int, size: int = 64, variance: float = VARIANCE):
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, count, size, dtype=torch.float64, generator=generator)
    return MEAN + math.sqrt(variance) * clean, noise, torch.rand(count, dtype=torch.float64, generator=generator)


def predicting(exact, path, kind="data", sigma_data=1.0, change=1.0):
    """``exact``, which predicts data, times ``change``, as a denoiser of another native kind."""
    return FunctionDenoiser(lambda x, t: exact.predict(x, t, kind) * change, path, kind, sigma_data)


def oracle(path, kind="data", change=1.0):
    exact = GaussianOracle(path, torch.full((64,), MEAN), VARIANCE)
    return predicting(exact, path, kind, SIGMA_DATA, change)


def times(path):
    return [path.time(value) for value in (-2.0, -0.3, 1.5)]


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_loss_at_the_oracle_is_the_weighted_posterior_variance(path):
    clean, noise, uniform = draws(4000)
    for t in times(path):
        alpha, sigma = path.alpha(t), path.sigma(t)
        posterior = VARIANCE * sigma**2 / (alpha**2 * VARIANCE + sigma**2)
        snr, kappa = (alpha / sigma) ** 2, sigma / alpha
        expected = {
            "uniform": snr,
            "data": 1.0,
            "snr-clipped": min(snr, 5.0),
            "edm": (kappa**2 + SIGMA_DATA**2) / (kappa * SIGMA_DATA) ** 2,
        }
        for weighting, weight in expected.items():
            loss = At(t, weighting=weighting)(oracle(path), clean, noise, uniform)
            assert loss.shape == (4000,)
            assert loss.mean().item() == pytest.approx(weight * posterior, rel=0.01)
        # u = (σ'/σ) x + (α' - α σ'/σ) D, so the error of u is the second coefficient times that of D.
        slope = path.d_alpha(t) - alpha * path.d_sigma(t) / sigma
        loss = FlowAt(t)(oracle(path), clean, noise, uniform)
        assert loss.mean().item() == pytest.approx(slope**2 * posterior, rel=0.01)


@pytest.mark.parametrize("objective", [At, FlowAt], ids=["denoising", "flow-matching"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_value_does_not_depend_on_the_kind_of_prediction(kind, objective):
    clean, noise, uniform = draws(5)
    for path in PATHS:
        for t in times(path):
            # A wrong denoiser: the relation must hold for errors of any size, not at the minimum only.
            wrong = GaussianOracle(path, torch.full((64,), 3.0), 2.0)
            losses = [objective(t)(predicting(wrong, path, name), clean, noise, uniform) for name in ("data", kind)]
            torch.testing.assert_close(losses[1], losses[0], rtol=1e-8, atol=0)


@pytest.mark.parametrize("weighting", ["uniform", "snr-clipped", "edm"])
def test_edm_weighting_gives_unit_weight_in_edm_space_and_oracle_is_the_minimiser(weighting):
    path = EDM()
    clean, noise, uniform = draws(2000)
    objective = Denoising(weighting)
    best = objective(oracle(path), clean, noise, uniform).mean()
    for change in (0.9, 1.1):
        assert objective(oracle(path, change=change), clean, noise, uniform).mean() > best
    if weighting == "edm":
        zero = FunctionDenoiser(lambda x, t: torch.zeros_like(x), path, "edm", SIGMA_DATA)
        # EDM's targets have unit variance at every noise level when the data have mean 0 and std sigma_data.
        centred = (clean - MEAN) * SIGMA_DATA / math.sqrt(VARIANCE)
        loss = objective(zero, centred, noise, uniform)
        assert loss[uniform < 0.3].mean().item() == pytest.approx(1, rel=0.02)
        assert loss[uniform > 0.7].mean().item() == pytest.approx(1, rel=0.02)


def test_losses_stay_finite_and_accurate_at_the_ends_in_float32():
    clean, noise, _ = draws(6)
    ends = torch.tensor([1e-12, 1e-9, 1e-6, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12], dtype=torch.float64)
    for path in PATHS:
        for kind in ("noise", "velocity", "edm", "flow"):
            zero = FunctionDenoiser(lambda x, t: torch.zeros_like(x), path, kind, SIGMA_DATA)
            for objective in (Denoising("uniform"), Denoising("snr-clipped"), Denoising("edm", times="uniform")):
                exact = objective(zero, clean, noise, ends)
                rough = objective(zero, clean.float(), noise.float(), ends)
                assert torch.isfinite(rough).all()
                torch.testing.assert_close(rough.double(), exact, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", TIME_LAWS)
@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_time_laws_stay_in_range_rise_or_fall_and_have_their_quantiles(name, path):
    uniform = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    t = TimeLaw(name)(path, uniform)
    assert t.dtype == torch.float64
    assert t.min() >= path.t_end
    assert t.max() <= path.t_start
    steps = t.diff()
    assert bool((steps >= 0).all()) or bool((steps <= 0).all())
    if name == "uniform":
        assert t.mean().item() == pytest.approx((path.t_end + path.t_start) / 2, rel=1e-6)
    if name == "log-normal" and isinstance(path, EDM):
        log_sigma = t.log()
        assert log_sigma.mean().item() == pytest.approx(-1.2, abs=1e-3)
        assert log_sigma.std().item() == pytest.approx(1.2, rel=5e-3)
    if name == "logit-normal":
        share = (t - path.t_end) / (path.t_start - path.t_end)
        assert torch.logit(share).mean().item() == pytest.approx(0, abs=1e-6)
        assert torch.logit(share).std().item() == pytest.approx(1, rel=5e-3)


def test_log_normal_is_truncated_not_clamped():
    path = VPLinear()
    t = TimeLaw("log-normal", mean=4.0, std=3.0)(path, (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    assert t.unique().numel() == 1000


def test_mask_weighs_elements_and_hides_unknown_ones():
    path = VPLinear()
    clean, noise, uniform = draws(3, 8)
    denoiser = FunctionDenoiser(lambda x, t: torch.zeros_like(x), path, "noise")
    mask = torch.zeros(3, 8)
    mask[0, :4], mask[1, 2] = 1, 0.5
    clean[0, 6] = float("nan")
    loss = Denoising()(denoiser, clean, noise, uniform, Conditioning(loss_weight=mask))
    expected = torch.stack([noise[0, :4].square().mean(), noise[1, 2].square(), torch.zeros(()).double()])
    torch.testing.assert_close(loss, expected)
    with pytest.raises(AnydiffError, match="loss_weight has shape"):
        Denoising()(denoiser, clean, noise, uniform, Conditioning(loss_weight=torch.ones(3, 7)))


def test_a_masked_nan_gives_no_gradient():
    path = VPLinear()
    clean, noise, uniform = draws(1, 4)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    denoiser = FunctionDenoiser(lambda x, t: x * scale, path, "noise")
    mask = torch.tensor([[True, True, False, False]])
    clean[0, 3] = float("nan")
    Denoising()(denoiser, clean, noise, uniform, Conditioning(loss_weight=mask)).sum().backward()
    assert scale.grad is not None
    assert torch.isfinite(scale.grad[:3]).all()


def test_bad_options_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'snr-clipped'"):
        Denoising("snr-cliped")
    with pytest.raises(UnknownNameError, match="did you mean 'log-normal'"):
        Denoising(times="lognormal")
    with pytest.raises(AnydiffError, match="gamma is -1"):
        Denoising(gamma=-1)
    with pytest.raises(AnydiffError, match="times_std"):
        FlowMatching("logit-normal", times_std=0.0)
    with pytest.raises(AnydiffError, match="uniform has shape"):
        Denoising()(oracle(EDM()), torch.zeros(2, 64), torch.zeros(2, 64), torch.rand(3))


def test_energy_of_a_state_is_its_loss_and_its_gradient_is_exact():
    """For x_0 ~ N(0, v): ε_θ = σ x/(α² v + σ²), so ε - ε_θ is linear in y, and ∇E follows by hand."""
    path, variance, t = VPLinear(), 0.25, 0.3
    oracle = GaussianOracle(path, torch.zeros(3), variance)
    y, noise = (torch.randn(5, 3, dtype=torch.float64, generator=generator(seed)) for seed in (0, 1))
    y.requires_grad_()
    alpha, sigma = path.alpha(t), path.sigma(t)
    slope = sigma / (alpha**2 * variance + sigma**2)
    error = noise - slope * (alpha * y + sigma * noise)
    energy = denoising_energy(oracle, y, t, noise)
    torch.testing.assert_close(energy, error.square().sum(1), rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(energy.sum(), y)
    torch.testing.assert_close(gradient, -2 * slope * alpha * error, rtol=1e-9, atol=1e-9)
    rows = denoising_energy(oracle, y, torch.full((5,), t, dtype=torch.float64), noise)
    torch.testing.assert_close(rows, energy, rtol=1e-12, atol=0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
