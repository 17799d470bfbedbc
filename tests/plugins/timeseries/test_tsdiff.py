"""TSDiff's self-guidance and refinement on a Gaussian series whose conditionals are known."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.denoisers import Denoiser, GaussianOracle
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import build_plan, execute
from anydiff.solvers.ddim import DDIM, DDPM
from anydiff.states import Conditioning, NoiseSource, StateSpec
from anydiff_timeseries.data import SeasonalGaussian, conditional, seasonal_covariance
from anydiff_timeseries.refine import Refinement
from anydiff_timeseries.scaling import level
from anydiff_timeseries.tsdiff import (
    ObservationGuidance,
    ancestral_scale,
    paper_path,
    quantile_energy,
    quantile_levels,
    squared_energy,
)

LENGTH, CONTEXT = 40, 32
COVARIANCE = seasonal_covariance()


def oracle(path=None) -> GaussianOracle:
    return GaussianOracle(path or VPCosine(), torch.zeros(1, LENGTH, dtype=torch.float64), COVARIANCE)


def series(rows: int = 4, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(rows, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise @ torch.linalg.cholesky(COVARIANCE).T


def observed(rows: int = 4, context: int = CONTEXT) -> torch.Tensor:
    mask = (torch.arange(LENGTH) < context).double().expand(rows, LENGTH)
    return torch.stack([series(rows), mask], dim=1)


def guided(energy: str, scale: float = 1.0, path=None) -> Denoiser:
    return ObservationGuidance(energy, scale, scaled=True)(oracle(path))


def test_the_paths_points_are_the_discrete_schedules():
    path = paper_path()
    kept = np.cumprod(1 - np.linspace(1e-4, 0.1, 100))
    for step in (1, 2, 20, 50, 99, 100):
        assert math.isclose(path.alpha(step / 100) ** 2, kept[step - 1], rel_tol=1e-10)
    assert abs(path.alpha(1.0) - 0.075) < 5e-4


def test_squared_energy_has_the_gradient_by_hand():
    """-s ∇E = -2 s (dD/dx)ᵀ (D - y) on the observed steps, with D's Jacobian α C (α² C + σ² I)^-1."""
    path, t = VPLinear(), 0.4
    alpha, sigma = path.alpha(t), path.sigma(t)
    jacobian = (
        alpha * COVARIANCE @ torch.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * torch.eye(LENGTH, dtype=torch.float64))
    )
    x, seen = series(seed=3)[:, None], observed()
    data = oracle(path)(x, t)
    residual = seen[:, 1] * (data[:, 0] - seen[:, 0])
    expected = data[:, 0] - 0.7 * sigma**2 / alpha * 2 * residual @ jacobian
    value = guided("squared", 0.7, path)(x, t, Conditioning.of(observed=seen))
    torch.testing.assert_close(value[:, 0], expected, rtol=1e-10, atol=1e-10)


def test_quantile_energy_has_the_gradient_of_the_pinball_loss():
    """By D: -q where y > D, 1 - q where y < D; at the median sign(D - y)/2; nothing where nothing was observed."""
    data, seen = series(seed=5)[:, None].requires_grad_(), observed()
    level_ = torch.tensor([0.1, 0.5, 0.9, 0.37], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(quantile_energy(data, seen, level_).sum(), data)
    below = seen[:, 0] > data[:, 0]
    expected = torch.where(below, -level_[:, None], 1 - level_[:, None]) * seen[:, 1]
    torch.testing.assert_close(gradient[:, 0], expected, rtol=0, atol=1e-12)
    half = torch.sign(data[1, 0] - seen[1, 0]) / 2 * seen[1, 1]
    torch.testing.assert_close(gradient[1, 0], half, rtol=0, atol=1e-12)
    assert float(squared_energy(data, seen)[0].detach()) == pytest.approx(
        float((seen[0, 1] * (seen[0, 0] - data[0, 0]) ** 2).sum().detach())
    )


@pytest.mark.parametrize("energy", ["quantile", "squared"])
@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm-solver++-2m", "unipc-2"])
def test_scale_0_and_an_empty_observation_are_the_unguided_sampler(solver, energy):
    plain = sample(oracle(), (1, LENGTH), 4, nfe=5, solver=solver)
    for guidance, condition in [
        (ObservationGuidance(energy, 0.0), {"observed": observed().float()}),
        (ObservationGuidance(energy, 4.0), {}),
        (ObservationGuidance(energy, 4.0), {"observed": torch.zeros(4, 2, LENGTH)}),
    ]:
        drawn = sample(oracle(), (1, LENGTH), 4, nfe=5, solver=solver, guidance=guidance, condition=condition)
        assert torch.equal(drawn, plain)


def test_scale_0_leaves_the_solver_that_nobody_chose():
    def drawn(**options):
        return sample(oracle(), (1, LENGTH), 4, nfe=5, **options)

    told = {"condition": {"observed": observed().float()}}
    assert torch.equal(drawn(guidance=ObservationGuidance(scale=0.0), **told), drawn())


def test_everything_observed_at_a_large_scale_is_the_observation():
    """White noise of unit variance, so that an explicit step is stable at this scale."""
    seen, path = observed(context=LENGTH), VPCosine()
    white = GaussianOracle(path, torch.zeros(1, LENGTH, dtype=torch.float64), 1.0)
    options = {"nfe": 150, "solver": "ddim", "condition": {"observed": seen}, "dtype": torch.float64}
    guidance = ObservationGuidance("squared", 40.0, scaled=True)
    drawn = sample(white, (1, LENGTH), 4, guidance=guidance, **options)
    plain = sample(white, (1, LENGTH), 4, **options)
    assert float((drawn[:, 0] - seen[:, 0]).abs().max()) < 0.05
    assert float((plain[:, 0] - seen[:, 0]).abs().mean()) > 0.5


def test_ddim_with_eta_1_takes_the_ancestral_step():
    grid = [step / 100 for step in range(100, 0, -1)]
    plans = [build_plan(solver, paper_path(), grid, end="stop") for solver in (DDIM(eta=1.0), DDPM())]
    x = series(3)[:, None]
    noise = NoiseSource(StateSpec.single((1, LENGTH)), 0)
    one, two = (execute(plan, oracle(paper_path()), x, noise=noise) for plan in plans)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    again = build_plan(DDIM(eta=0.0), paper_path(), grid, end="stop")
    assert again.draws == 0


def test_the_ancestral_scale_is_the_papers_ddpm_form():
    """x ← ancestral step - s pv_t ∇E(x_t), written out with β and ᾱ, against one guided plan."""
    path, scale = paper_path(), 2.0
    grid = [step / 100 for step in range(100, 0, -1)]
    guidance = ObservationGuidance("squared", ancestral_scale(path, grid, scale), scaled=True)
    seen, x = observed(3), series(3)[:, None]
    noise = NoiseSource(StateSpec.single((1, LENGTH)), 0)
    plan = build_plan(DDPM(), path, grid, end="denoise")
    out = execute(plan, guidance(oracle(path)), x, noise=noise, condition=Conditioning.of(observed=seen))
    beta = np.linspace(1e-4, 0.1, 100)
    kept = np.cumprod(1 - beta)
    for number in range(99, -1, -1):
        before = kept[number - 1] if number else 1.0
        variance = beta[number] * (1 - before) / (1 - kept[number])
        state = x.clone().requires_grad_()
        data = oracle(path)(state, (number + 1) / 100)
        (gradient,) = torch.autograd.grad(squared_energy(data, seen).sum(), state)
        mean = math.sqrt(before) * beta[number] * data.detach() + math.sqrt(1 - beta[number]) * (1 - before) * x
        x = mean / (1 - kept[number]) - scale * variance * gradient
        if number:
            x = x + math.sqrt(variance) * noise.draw(range(3), 100 - number, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(out, x, rtol=1e-7, atol=1e-7)


def test_levels():
    assert quantile_levels(1).tolist() == [0.5]
    assert quantile_levels(3).tolist() == [0.25, 0.5, 0.75]


def test_a_sample_keeps_its_level_however_the_batch_is_cut():
    seen = observed(1).float().expand(12, -1, -1)
    options = {"nfe": 4, "solver": "ddim", "guidance": ObservationGuidance(scaled=True)}
    whole = sample(oracle(), (1, LENGTH), 12, condition={"observed": seen}, **options)
    cut = sample(oracle(), (1, LENGTH), 12, condition={"observed": seen}, batch_size=5, **options)
    torch.testing.assert_close(whole, cut, rtol=1e-5, atol=1e-5)
    some = sample(oracle(), (1, LENGTH), [7, 2], condition={"observed": seen[:2]}, **options)
    torch.testing.assert_close(some, whole[[7, 2]], rtol=1e-5, atol=1e-5)


def test_copies_that_an_outer_wrapper_stacks_have_the_level_of_their_sample():
    guidance, x = guided("quantile"), series(2)[:, None]
    condition = Conditioning({"observed": observed(1).expand(2, -1, -1)}, index=torch.tensor([7, 2]))
    once = guidance(x, 0.3, condition)
    stacked = Conditioning.joined([condition, condition.rows([1, 0, 1])])
    twice = guidance(torch.cat([x, x[[1, 0, 1]]]), 0.3, stacked)
    torch.testing.assert_close(twice, once[[0, 1, 1, 0, 1]])
    other = guidance(x, 0.3, Conditioning(condition.given, index=torch.tensor([7, 3])))
    assert torch.equal(other[0], once[0])
    assert not torch.equal(other[1], once[1])


def test_samples_of_high_levels_lie_above_those_of_low_ones():
    """What a wrong pairing of levels and samples would undo."""
    members = 15
    condition = {
        "observed": observed(8).repeat_interleave(members, 0),
        "quantile_level": quantile_levels(members).repeat(8),
    }
    drawn = sample(
        oracle(), (1, LENGTH), 8 * members, nfe=25, solver="ddim", guidance=ObservationGuidance(scale=8.0, scaled=True),
        condition=condition, dtype=torch.float64,
    )  # fmt: skip
    mean = drawn[:, 0, :CONTEXT].reshape(8, members, CONTEXT).mean((0, 2))
    low, middle, high = mean.reshape(3, 5).mean(1).tolist()
    assert low < middle < high


@pytest.mark.parametrize(("energy", "scale"), [("quantile", 4.0), ("squared", 1.0)])
def test_the_forecast_approaches_the_exact_conditional(energy, scale):
    """A quick form of the claim: guided samples are far nearer to the exact mean than unguided ones."""
    members, seen = 16, observed(6)
    condition = {"observed": seen.repeat_interleave(members, 0), "quantile_level": quantile_levels(members).repeat(6)}
    mean, _ = conditional(seen, COVARIANCE)

    def error(strength: float) -> float:
        drawn = sample(
            oracle(), (1, LENGTH), 6 * members, nfe=40, solver="ddim", condition=condition, dtype=torch.float64,
            guidance=ObservationGuidance(energy, strength, scaled=True),
        )  # fmt: skip
        forecast = drawn[:, 0, CONTEXT:].reshape(6, members, -1).mean(1)
        return float((forecast - mean).square().mean().sqrt())

    assert error(scale) < 0.35 * error(0.0)


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-6, 1e6))
def test_the_unit_of_a_series_does_not_matter(unit):
    seen = observed().float()
    other = torch.stack([seen[:, 0] * unit, seen[:, 1]], dim=1)
    x = series(seed=2)[:, None].float()
    q = torch.full((4,), 0.3)
    guidance = ObservationGuidance()(oracle())
    one, two = (guidance(x, 0.4, Conditioning.of(observed=each, quantile_level=q)) for each in (seen, other))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_the_synthetic_data_have_the_covariance_they_say():
    data = SeasonalGaussian(count=4000)
    states, condition = data.batch(range(4000))
    windows = data.domain.values(states, condition)
    torch.testing.assert_close(windows.T.cov(), COVARIANCE, rtol=0, atol=0.08)
    mean, rest = conditional(condition.given["observed"], COVARIANCE)
    spread = (windows[:, CONTEXT:] - mean).square().mean(0)
    torch.testing.assert_close(spread, rest.diagonal(), rtol=0.1, atol=0)
    assert torch.allclose(level(condition.given["observed"].double()), windows[:, :CONTEXT].abs().mean(1), rtol=1e-5)


@pytest.mark.parametrize("method", ["most-likely", "langevin"])
@pytest.mark.parametrize("regulariser", ["squared", "quantile"])
def test_refinement_moves_a_naive_forecast_towards_the_conditional_mean(method, regulariser):
    seen = observed(24)
    mean, _ = conditional(seen, COVARIANCE)
    naive = seen[:, 0].clone()
    naive[:, CONTEXT:] = naive[:, CONTEXT - 8 : CONTEXT]
    refine = Refinement(method, regulariser)
    out = refine(oracle(paper_path()), naive[:, None], seen[:, 1], torch.full((24,), 0.5, dtype=torch.float64))

    def error(forecast: torch.Tensor) -> float:
        return float((forecast[:, CONTEXT:] - mean).square().mean().sqrt())

    assert error(out[:, 0]) < 0.85 * error(naive)
    again = refine(oracle(paper_path()), naive[:, None], seen[:, 1], torch.full((24,), 0.5, dtype=torch.float64))
    assert torch.equal(out, again)
    nothing = Refinement(method, regulariser, iterations=0)
    assert torch.equal(nothing(oracle(), naive[:, None], seen[:, 1], torch.full((24,), 0.5)), naive[:, None])


def test_refinement_does_not_depend_on_the_batch():
    seen, q = observed(4), torch.full((4,), 0.5, dtype=torch.float64)
    refine = Refinement("langevin")
    whole = refine(oracle(), seen[:, :1], seen[:, 1], q)
    part = refine(oracle(), seen[2:3, :1], seen[2:3, 1], q[2:3], samples=[2])
    torch.testing.assert_close(part[0], whole[2], rtol=1e-10, atol=1e-10)


def test_bad_options():
    with pytest.raises(UnknownNameError, match="quantile"):
        ObservationGuidance("quantil")
    with pytest.raises(AnydiffError, match=r"\[4, 2, 40\]"):
        ObservationGuidance()(oracle())(series()[:, None], 0.3, Conditioning.of(observed=observed()[:, 0]))
    with pytest.raises(AnydiffError, match="quantile_level is missing"):
        ObservationGuidance()(oracle())(series()[:, None], 0.3, Conditioning.of(observed=observed()))
    ones = Conditioning.of(observed=observed(), quantile_level=torch.ones(4))
    with pytest.raises(AnydiffError, match=r"numbers in \(0, 1\)"):
        guided("quantile")(series()[:, None], 0.3, ones)
    with pytest.raises(UnknownNameError, match="method of refinement"):
        Refinement("gradient")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="anchor"):
        Refinement(anchor="none")  # type: ignore[arg-type]
    with pytest.raises(AnydiffError, match="first is"):
        paper_path(100, 0.1, 0.1)
    with pytest.raises(AnydiffError, match="step_size"):
        Refinement(step_size=0)


def test_the_papers_path_warns_that_it_keeps_signal():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sample(oracle(paper_path()), (1, LENGTH), 1, nfe=2, solver="ddim")
    assert any("keeps a signal" in str(each.message) for each in caught)
