"""Methods against exact posteriors: the law on a Gaussian field, bit for bit without a measurement, rows, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.inverse import DDNM, DDRM, DPS, AsymmetricLaplace, PiGDM, Problem, RedDiff
from anydiff.inverse.operators import AveragePooling, Blur, Composition, Mask, Matrix, Quantised
from anydiff.paths import EDM, Flow, MeanReverting, ProductPath, VPCosine
from anydiff.samplers import sample
from anydiff.solvers.walk import Walk, compile_walk
from anydiff.states import Leaf, StateSpec

SIDE, STD, NOISE = 8, 0.5, 0.05
COUNT = 600


class Field(GaussianOracle):
    """Its data's deviation is told, as a trained network's is."""

    sigma_data = STD


def covariance() -> torch.Tensor:
    steps = torch.arange(float(SIDE))
    places = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    near = torch.exp(-torch.cdist(places, places).square() / 8).double()
    return STD**2 * (0.97 * near + 0.03 * torch.eye(SIDE**2, dtype=torch.float64))


@pytest.fixture(scope="module")
def field():
    """The prior's covariance, the mask, a measurement, the exact posterior's mean and covariance."""
    generator = torch.Generator().manual_seed(0)
    prior = covariance()
    truth = torch.linalg.cholesky(prior) @ torch.randn(SIDE**2, generator=generator, dtype=torch.float64)
    seen = torch.zeros(SIDE**2, dtype=torch.bool)
    seen[torch.randperm(SIDE**2, generator=generator)[: SIDE**2 // 2]] = True
    y = truth + NOISE * torch.randn(SIDE**2, generator=generator, dtype=torch.float64)
    a = torch.eye(SIDE**2, dtype=torch.float64)[seen]
    gain = torch.linalg.solve(a @ prior @ a.T + NOISE**2 * torch.eye(len(a)), a @ prior).T
    return prior, seen, y, gain @ y[seen], prior - gain @ a @ prior


def unknown(field, states):
    """Spread and error of the mean in the posterior's deviations, over the unknown entries."""
    _, seen, _, mean, cov = field
    deviation = cov.diagonal().sqrt()
    off = ((states.mean(0) - mean) / deviation)[~seen]
    return float((states.std(0) / deviation)[~seen].mean()), float(off.square().mean().sqrt())


@pytest.mark.parametrize("path", [VPCosine(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("solver", ["dpm-solver++-2m", "by-budget", "ddpm"])
def test_the_law_with_the_jacobian_is_that_of_the_exact_posterior_denoiser(field, path, solver):
    prior, seen, y, mean, cov = field
    options = {"nfe": 20, "solver": solver, "dtype": torch.float64, "batch_size": COUNT}
    exact = sample(GaussianOracle(path, mean, cov), (SIDE**2,), COUNT, **options)
    problem = Problem(Mask((SIDE**2,), seen), y, NOISE)
    inner = Field(path, torch.zeros(SIDE**2), prior)
    found = PiGDM(covariance="jacobian", steps=10).solve(problem, inner, (SIDE**2,), COUNT, **options)
    (spread, off), (true_spread, true_off) = unknown(field, found), unknown(field, exact)
    assert abs(spread - true_spread) < 0.05
    assert abs(off - true_off) < 0.1


def test_isotropic_and_null_space_are_nearer_than_known_entries_were(field):
    """Both are approximations: what replacing known entries gave is 1.0 deviations off in the mean."""
    prior, seen, y, _, _ = field
    inner = Field(VPCosine(), torch.zeros(SIDE**2), prior)
    problem = Problem(Mask((SIDE**2,), seen), y, NOISE)
    common = {"dtype": torch.float64, "batch_size": COUNT}
    assert unknown(field, PiGDM().solve(problem, inner, (64,), COUNT, nfe=20, solver="ddpm", **common))[1] < 0.8
    spread, off = unknown(field, DDNM().solve(problem, inner, (64,), COUNT, nfe=100, **common))
    assert off < 0.4
    assert 0.8 < spread < 1.1


@pytest.mark.parametrize("t", [0.9, 0.5, 0.1])
def test_guidance_is_exact_for_white_data(t):
    """N(0, I): D + (σ²/α) g is E[x_0 | x_t, y], with the score-valued g and r² = σ²/(σ² + α²)."""
    generator = torch.Generator().manual_seed(3)
    path = VPCosine()
    matrix = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(2, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    problem = Problem(Matrix((5,), matrix), y, 0.3)
    inner = GaussianOracle(path, torch.zeros(5), 1.0)
    spread = sigma**2 / (sigma**2 + alpha**2)
    prior = alpha / (alpha**2 + sigma**2) * x
    gram = spread * matrix @ matrix.T + 0.09 * torch.eye(2, dtype=torch.float64)
    right = prior + spread * torch.linalg.solve(gram, (y - prior @ matrix.T).T).T @ matrix
    for method in (PiGDM(), PiGDM(covariance="jacobian", steps=5)):
        (layer,) = method.layers(problem, inner, None)
        assert torch.allclose(layer(inner)(x, t), right, atol=1e-8)


@pytest.mark.parametrize("method", [PiGDM(), PiGDM(covariance="jacobian")], ids=["pigdm", "mmps"])
@pytest.mark.parametrize("solver", ["dpm-solver++-2m", "ddpm", "heun"])
def test_nothing_measured_changes_nothing(method, solver):
    inner = GaussianOracle(VPCosine(), torch.zeros(6), torch.eye(6) + 0.3)
    empty = Problem(Mask((6,), torch.zeros(6, dtype=torch.bool)), torch.full((6,), math.nan), 0.1)
    plain = sample(inner, (6,), 5, nfe=8, solver=solver)
    assert torch.equal(method.solve(empty, inner, (6,), 5, nfe=8, solver=solver), plain)


def test_a_walk_without_measurement_is_ddim_with_a_full_jump():
    inner = GaussianOracle(VPCosine(), torch.zeros(6), torch.eye(6) + 0.3)
    empty = Problem(Mask((6,), torch.zeros(6, dtype=torch.bool)), torch.full((6,), math.nan))
    found = DDNM().solve(empty, inner, (6,), 5, nfe=8)
    assert torch.equal(found, sample(inner, (6,), 5, solver=compile_walk(Walk(0.85, "ddnm", "kept"), VPCosine(), 8)))
    for eta in (0.0, 0.5, 1.0):
        walk = sample(inner, (6,), 5, solver=compile_walk(Walk(eta), VPCosine(), 8), dtype=torch.float64)
        ddim = sample(inner, (6,), 5, solver="ddim", eta=eta, nfe=8, end="denoise", dtype=torch.float64)
        assert torch.allclose(walk, ddim, atol=1e-12)


def test_null_space_meets_an_exact_measurement():
    inner = GaussianOracle(VPCosine(), torch.zeros(1, 8, 8), 0.25)
    state = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for operator in (AveragePooling((1, 8, 8), 2), Mask((1, 8, 8), state[0] > 0), Blur((1, 8, 8), 0.5)):
        y = operator.forward(state)
        found = DDNM().solve(Problem(operator, y), inner, (1, 8, 8), 3, nfe=6, dtype=torch.float64)
        assert torch.allclose(operator.forward(found), y.expand_as(operator.forward(found)), atol=1e-6)
    everything = Problem(Mask((1, 8, 8), torch.ones(1, 8, 8)), state)
    assert torch.allclose(DDNM().solve(everything, inner, (1, 8, 8), 1, nfe=4, dtype=torch.float64), state, atol=1e-6)


def test_null_space_with_noise_keeps_the_law_of_a_known_entry():
    """Two white entries, one seen with noise. DDNM's rule narrows what is not seen to 0.83 of its deviation in 40
    steps."""
    inner = GaussianOracle(VPCosine(), torch.zeros(2), 1.0)
    problem = Problem(Mask((2,), [True, False]), torch.tensor([1.0, 0.0]), 0.5)
    found = DDNM().solve(problem, inner, (2,), 4000, nfe=40, dtype=torch.float64, batch_size=4000)
    assert float(found[:, 1].std()) == pytest.approx(0.83, abs=0.05)
    assert float(found[:, 0].mean()) == pytest.approx(0.97, abs=0.05)  # of 0.8: it trusts y too much


@pytest.mark.parametrize("method", [PiGDM(), PiGDM(covariance="jacobian"), DDNM()], ids=["pigdm", "mmps", "ddnm"])
def test_a_row_depends_on_its_own_measurement_alone(method):
    inner = GaussianOracle(VPCosine(), torch.zeros(4), torch.eye(4) + 0.5)
    generator = torch.Generator().manual_seed(2)
    masks, y = torch.rand(3, 4, generator=generator) > 0.4, torch.randn(3, 4, generator=generator)
    std = torch.rand(3, 4, generator=generator) + 0.1

    def solved(rows, batch_size):
        problem = Problem(Mask((4,), masks[rows]), y[rows], std[rows])
        return method.solve(
            problem, inner, (4,), 6, nfe=5, cases=len(rows), batch_size=batch_size, dtype=torch.float64, seed=3
        )

    together = solved([0, 1, 2], 6)
    for size in (1, 2, 4):
        assert torch.allclose(solved([0, 1, 2], size), together, atol=1e-12)
    assert torch.allclose(solved([0, 1], 6)[:2], together[:2], atol=1e-12)


def test_units_change_nothing():
    """Kelvin or states: the same samples, for a scale per entry, with means of blocks and with masks."""
    inner = GaussianOracle(VPCosine(), torch.zeros(2, 4), 1.0)
    generator = torch.Generator().manual_seed(5)
    scale, offset = torch.rand(2, 4, generator=generator) + 0.5, 280 + torch.randn(2, 4, generator=generator)
    for operator in (Mask((2, 4), torch.rand(2, 4, generator=generator) > 0.5), AveragePooling((2, 4), 2)):
        y = operator.forward(280 + torch.randn(1, 2, 4, generator=generator))
        problem = Problem(operator, y, 0.2).in_states(scale, offset)
        found = PiGDM().solve(problem, inner, (2, 4), 400, nfe=20, solver="ddpm", batch_size=400)
        in_units = operator.forward(scale * found + offset)
        seen = operator.observed(y)[0]
        assert torch.allclose(in_units.mean(0)[seen], y[0][seen].float(), atol=0.4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Problem(Mask((3,), [True] * 3), torch.zeros(4)), "the measurement has shape"),
        (lambda: Problem(Mask((3,), [True] * 3), torch.tensor([1.0, math.nan, 0.0])), "1 values that are not finite"),
        (lambda: Problem(Mask((3,), [True] * 3), torch.zeros(3), -1.0), "noise is -1, but a standard deviation"),
        (lambda: Problem(Mask((3,), torch.ones(2, 3)), torch.zeros(3, 3)), "different numbers of cases"),
        (lambda: Problem(Mask((3,), [True] * 3), torch.zeros(3), torch.ones(2)), "noise has shape"),
    ],
)
def test_problems_that_are_refused(make, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        make()


def solved(method, operator, noise, inner=None, shape=(4,), **options):
    inner = inner or GaussianOracle(VPCosine(), torch.zeros(shape), 1.0)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, *operator.output, generator=generator, dtype=torch.float64)
    return method.solve(Problem(operator, y, noise), inner, shape, 2, **options)


COMPOSED = Composition((Matrix((4,), torch.ones(2, 4)), Blur((4,), kernel=[0.5, 1.0, 0.25])))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: solved(DDNM(), Quantised((4,), 0.5), 0.1), "is not linear, .* use the method 'dps'"),
        (lambda: solved(PiGDM(), Quantised((4,), 0.5), 0.1), "is not linear, .* use the method 'dps'"),
        (lambda: solved(PiGDM(), Mask((4,), [True] * 4), AsymmetricLaplace()), "takes Gaussian noise alone"),
        (lambda: solved(DDNM(), COMPOSED, 0.1), "whose singular values are known, .* use the method 'pigdm'"),
        (lambda: solved(PiGDM(), COMPOSED, 0.0), "no state gives this measurement .* how large the noise is"),
        (lambda: solved(DDNM(), Mask((4,), [True] * 4), 0.1, nfe=1), "nfe is 1, but this method needs at least 2"),
        (lambda: solved(DDNM(), Mask((4,), [True] * 4), 0.1, solver="ddim"), "a plan of its own; leave it out"),
        (lambda: solved(DDNM(), Mask((3,), [True] * 3), 0.1), r"states of shape \(3,\), but these have \(4,\)"),
        (lambda: solved(PiGDM(covariance="full"), Mask((3,), [True] * 3), 0.1), "covariance"),
    ],
)
def test_what_a_method_refuses(call, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        call()


@pytest.mark.parametrize(
    "method",
    [DDNM(), DDRM(), DPS(), DPS(form="likelihood"), PiGDM(), PiGDM(covariance="jacobian"), RedDiff()],
)
def test_no_method_takes_what_no_state_gives(method):
    """Two different sums of the same entries, both without noise: DPS and RED-Diff went for something between."""
    given = Problem(Matrix((4,), torch.ones(2, 4)), torch.tensor([1.0, 2.0]))
    with pytest.raises(AnydiffError, match=r"no state gives this measurement \(the nearest is 0.32 of its size away\)"):
        method.solve(given, GaussianOracle(VPCosine(), torch.zeros(4), 1.0), (4,), 1, nfe=4)


def test_a_walk_refuses_known_sources():
    inner = GaussianOracle(EDM(), torch.zeros(4), 1.0)
    assert solved(DDNM(), Mask((4,), [True] * 4), 0.1, inner).isfinite().all()
    with pytest.raises(AnydiffError, match="use the method 'pigdm'"):
        compile_walk(Walk(), MeanReverting(), 5)


@pytest.mark.parametrize("path", [VPCosine(), Flow()], ids=["vp", "flow"])
def test_isotropic_guidance_lowers_the_order_of_by_budget(field, path):
    """With plans of its full order means were up to 24 deviations off."""
    prior, seen, y, _, _ = field
    inner = Field(path, torch.zeros(SIDE**2), prior)
    problem = Problem(Mask((SIDE**2,), seen), y, NOISE)
    for nfe in (10, 20):
        found = PiGDM().solve(
            problem, inner, (64,), 200, nfe=nfe, solver="by-budget", dtype=torch.float64, batch_size=200
        )
        assert unknown(field, found)[1] < 1.5
        assert unknown(field, found)[0] < 1.3


@pytest.mark.parametrize(
    ("path", "solver", "nfe"),
    [
        (VPCosine(), "seeds-2", 20),
        (VPCosine(), "edm", 10),
        (VPCosine(), "dpm-solver-2", 10),
        (Flow(), "unipc-3", 10),
        (Flow(), "sde-dpm-solver++-3m", 10),
        (ProductPath((("a", VPCosine()), ("b", VPCosine(t_end=0.02)))), "seeds-2", 20),
    ],
)
def test_isotropic_guidance_is_refused_where_it_diverges(path, solver, nfe):
    """On the field their means are 36 to 2,000 deviations off; the Jacobian's stay."""
    shape, made = (64,), path
    if isinstance(path, ProductPath):
        shape = StateSpec([Leaf("a", (32,)), Leaf("b", (32,))])
        made = path.bind(shape)
    inner = Field(made, torch.zeros(64), 0.25)
    problem = Problem(Mask((64,), torch.arange(64) < 32), torch.zeros(64), NOISE)
    with pytest.raises(AnydiffError, match=rf"diverges inside of .* with {nfe} calls: .* take the solver 'ddpm'"):
        PiGDM().solve(problem, inner, shape, 2, nfe=nfe, solver=solver)
    nothing = Problem(Mask((64,), torch.zeros(64, dtype=torch.bool)), torch.zeros(64), NOISE)
    assert PiGDM().solve(nothing, inner, shape, 2, nfe=nfe, solver=solver).isfinite().all()
    assert PiGDM(covariance="jacobian").solve(problem, inner, shape, 2, nfe=nfe, solver=solver).isfinite().all()


@pytest.mark.parametrize("method", [DDNM(), DPS(), PiGDM(), PiGDM(covariance="jacobian"), RedDiff()])
def test_what_a_mask_shows_without_noise_comes_out_as_it_was_measured(method):
    """A guidance leaves the last step's noise there, and few calls more than that; one entry has noise of its own."""
    inner = GaussianOracle(VPCosine(), torch.zeros(4), torch.eye(4) + 0.5)
    y = torch.tensor([[0.3, -1.2, 0.5, math.nan], [1.0, 0.2, 0.1, math.nan]], dtype=torch.float64)
    given = Problem(Mask((4,), ~y.isnan()), y, torch.tensor([0.0, 0.0, 0.3, 0.0]))
    found = method.solve(given, inner, (4,), 4, cases=2, nfe=4, dtype=torch.float64, batch_size=3)
    assert torch.equal(found[:, :2], y[[0, 1, 0, 1], :2])
    assert not torch.equal(found[:, 2], y[[0, 1, 0, 1], 2])
