"""The bounded observation guidance: exact on a Gaussian series, at every solver; bounded on every model."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import Denoiser, GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine
from anydiff.pipeline import Pipeline, load
from anydiff.recipes import load_recipe
from anydiff.samplers import sample
from anydiff.states import Conditioning
from anydiff_timeseries.data import seasonal_covariance
from anydiff_timeseries.posterior import PosteriorGuidance, own_spectrum, shrunk_covariance
from anydiff_timeseries.predictor import TSDiffPredictor
from anydiff_timeseries.tsdiff import ObservationGuidance

LENGTH, CONTEXT = 40, 32
SMALL = [f"network.options.{change}" for change in ("width=16", "blocks=2", "cycle=2")]
COVARIANCE = seasonal_covariance()
EXACT = PosteriorGuidance(noise=0.3, scaled=True, covariance=COVARIANCE)


def oracle() -> GaussianOracle:
    return GaussianOracle(VPCosine(), torch.zeros(1, LENGTH, dtype=torch.float64), COVARIANCE)


def observed(rows: int, gaps: bool = False) -> torch.Tensor:
    noise = torch.randn(rows, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(LENGTH) < CONTEXT).double().repeat(rows, 1)
    if gaps:
        mask[::2, 5:17] = 0
    return torch.stack([noise @ torch.linalg.cholesky(COVARIANCE).T, mask], dim=1)


def exact(seen: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean ``[L]`` and covariance ``[L, L]`` of the window given one noisy observation ``[2, L]``, written out."""
    mask = seen[1] > 0
    gain = torch.linalg.solve(COVARIANCE[mask][:, mask] + noise**2 * torch.eye(int(mask.sum())), COVARIANCE[mask]).T
    return gain @ seen[0, mask], COVARIANCE - gain @ COVARIANCE[mask]


@pytest.mark.parametrize("level", [1e-3, 0.1, 1.0, 30.0, 1e4])
def test_the_guided_prediction_is_the_exact_conditional_mean_at_every_noise_level(level):
    """E[x_0 | x_t, y] = m + R α (α² R + σ² I)⁻¹ (x_t - α m), with m and R those of x_0 given y."""
    path, seen = VPCosine(), observed(3, gaps=True)
    t = path.time(-math.log(level))
    alpha, sigma = path.alpha(t), path.sigma(t)
    x = sigma * torch.randn(3, 1, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    guided = EXACT(oracle())(x, t, Conditioning.of(observed=seen))
    for row in range(3):
        mean, rest = exact(seen[row], 0.3)
        inner = torch.linalg.solve(alpha**2 * rest + sigma**2 * torch.eye(LENGTH), x[row, 0] - alpha * mean)
        torch.testing.assert_close(guided[row, 0], mean + alpha * rest @ inner, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "grid", "nfe"),
    [("ddim", "time", 100), ("heun", "time", 60), ("edm", "karras", 120), ("dpm-solver++-2m", "karras", 60)],
)
def test_samples_have_the_mean_and_the_spread_of_the_exact_conditional(solver, grid, nfe):
    members = 1000
    seen = observed(1)
    drawn = sample(
        oracle(), (1, LENGTH), members, nfe=nfe, solver=solver, grid=grid, guidance=EXACT, dtype=torch.float64,
        condition={"observed": seen.expand(members, -1, -1)}, batch_size=members,
    )[:, 0]  # fmt: skip
    mean, rest = exact(seen[0], 0.3)
    spread = rest.diagonal().sqrt()
    # Six and four standard errors.
    assert float(((drawn.mean(0) - mean) / spread).abs().max()) < 6 / math.sqrt(members)
    assert float((drawn.std(0) / spread - 1).abs().max()) < 4 / math.sqrt(2 * members)
    correlation = drawn.T.corrcoef() - rest / torch.outer(spread, spread)
    assert float(correlation.abs().max()) < 0.15


@pytest.mark.parametrize("nfe", [5, 10])
@pytest.mark.parametrize(("solver", "grid"), [("ddim", "time"), ("heun", "time"), ("edm", "karras")])
def test_few_calls_do_not_overshoot(solver, grid, nfe):
    """The published form at the scale of the bundled traffic recipe leaves the data by far; this one does not."""
    seen = observed(16)
    options = {"nfe": nfe, "solver": solver, "grid": grid, "dtype": torch.float64, "condition": {"observed": seen}}

    def error(guidance) -> float:
        drawn = sample(oracle(), (1, LENGTH), 16, guidance=guidance, **options)
        return float((drawn[:, 0, :CONTEXT] - seen[:, 0, :CONTEXT]).square().mean().sqrt())

    bounded = error(PosteriorGuidance(noise=0.0, scaled=True, covariance=COVARIANCE))
    assert bounded < 0.2
    assert error(ObservationGuidance("squared", 1.0, scaled=True)) > 5 * bounded


def test_no_step_goes_beyond_its_observation_whatever_the_model_predicts():
    """The residual y - D of the observed steps never grows, for any prediction D: A P Aᵀ (A P Aᵀ + v²)⁻¹ <= 1."""

    class Wild(Denoiser):
        path, native_kind = VPCosine(), "data"

        def native(self, x, t, condition=None):
            return 100 * torch.sin(37 * x)

    seen, x = observed(8), torch.randn(8, 1, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for t in (0.02, 0.3, 0.8, 0.99):
        before = (seen[:, 0] - Wild()(x, t)[:, 0])[:, :CONTEXT].norm(dim=1)
        after = (seen[:, 0] - EXACT(Wild())(x, t, Conditioning.of(observed=seen))[:, 0])[:, :CONTEXT].norm(dim=1)
        assert bool((after <= before * (1 + 1e-9)).all())


def test_rows_of_other_times_and_other_gaps_are_guided_alone():
    seen, t = observed(4, gaps=True), torch.tensor([0.2, 0.2, 0.7, 0.7], dtype=torch.float64)
    x = torch.randn(4, 1, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    guided = EXACT(oracle())
    whole = guided(x, t, Conditioning.of(observed=seen))
    for row in range(4):
        one = guided(x[row : row + 1], float(t[row]), Conditioning.of(observed=seen[row : row + 1]))
        torch.testing.assert_close(whole[row : row + 1], one, rtol=1e-10, atol=1e-10)


def test_the_models_own_covariance_is_that_of_its_samples_and_is_made_once():
    model, like = oracle(), torch.zeros(1, 1, LENGTH)
    values, vectors = own_spectrum(model, like)
    found = (vectors * values) @ vectors.T
    assert float((found - COVARIANCE).norm() / COVARIANCE.norm()) < 0.2
    assert own_spectrum(EXACT(model), like)[0] is values


def test_a_change_of_the_weights_asks_for_a_new_covariance():
    pipeline = Pipeline.untrained(load_recipe("timeseries/traffic", SMALL))
    network, like = pipeline.denoiser.network, torch.zeros(1, 1, 192)
    before = own_spectrum(pipeline.denoiser, like)
    assert own_spectrum(pipeline.denoiser, like)[0] is before[0]
    with torch.no_grad():
        network.exit.weight.add_(0.1)
    assert not torch.equal(own_spectrum(pipeline.denoiser, like)[0], before[0])


def test_shrinking_leaves_many_samples_alone_and_makes_few_regular():
    rows = torch.randn(20000, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    rows = rows @ torch.linalg.cholesky(COVARIANCE).T
    torch.testing.assert_close(shrunk_covariance(rows), COVARIANCE, rtol=0, atol=0.05)
    few = shrunk_covariance(rows[:8])
    assert float(torch.linalg.eigvalsh(few).min()) > 0
    assert torch.equal(shrunk_covariance(torch.ones(3, 4).double()), torch.zeros(4, 4).double())


def test_nothing_observed_and_infinite_noise_are_the_unguided_sampler():
    """Of the same plan: infinite noise leaves the solver that nobody chose, a guidance with nothing to see asks it for
    shorter views, as every guidance does, and under a solver that was chosen all are the same."""
    nothing = [(EXACT, {}), (EXACT, {"observed": torch.zeros(4, 2, LENGTH)})]
    infinite = (PosteriorGuidance(math.inf), {"observed": observed(4).float()})

    def drawn(case=None, **options):
        told = {} if case is None else {"guidance": case[0], "condition": case[1]}
        return sample(oracle(), (1, LENGTH), 4, nfe=5, **told, **options)

    assert torch.equal(drawn(infinite), drawn())
    for case in nothing:
        assert torch.equal(drawn(case), drawn(solver="by-budget", guided=True))
    for solver in ("ddim", "by-budget"):
        for case in [*nothing, infinite]:
            guided = {"guided": True} if solver == "by-budget" else {}
            assert torch.equal(drawn(case, solver=solver, **guided), drawn(solver=solver, **guided))


def test_bad_options():
    with pytest.raises(AnydiffError, match="noise is -1"):
        PosteriorGuidance(-1)
    with pytest.raises(AnydiffError, match="noise is nan"):
        PosteriorGuidance(math.nan)
    with pytest.raises(AnydiffError, match=r"\[L, L\]"):
        PosteriorGuidance(covariance=torch.zeros(3, 4))
    condition = Conditioning.of(observed=observed(2))
    with pytest.raises(AnydiffError, match="40"):
        PosteriorGuidance(covariance=torch.eye(7))(oracle())(torch.zeros(2, 1, LENGTH), 0.5, condition)
    with pytest.raises(AnydiffError, match="observed has shape"):
        EXACT(oracle())(torch.zeros(2, 1, LENGTH), 0.5, Conditioning.of(observed=torch.zeros(2, LENGTH)))


def test_the_predictor_takes_the_recipes_guidance_and_the_published_one_when_asked():
    pipeline = load("timeseries/traffic")
    assert [type(one) for one in TSDiffPredictor(pipeline).guidance] == [PosteriorGuidance]
    assert TSDiffPredictor(pipeline, energy="squared").guidance == [ObservationGuidance("squared", 1.0)]
    assert TSDiffPredictor(pipeline, scale=4.0).guidance == [ObservationGuidance("quantile", 4.0)]
