"""Stochastic plans by their exact moments, and the rows of the reverse SDE as they are published."""

import math

import numpy as np
import pytest
import torch
from moments import forms, mean_and_variance
from tables import coefficients

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import AnydiffError
from anydiff.paths import EDM, VE, Flow, SubVP, VPCosine, VPLinear, time_grid
from anydiff.registry import registry
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.ddim import DDIM, DDPM
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.operations import langevin
from anydiff.solvers.plan import Apply, Combine
from anydiff.solvers.predictor_corrector import PredictorCorrector
from anydiff.solvers.program import Node
from anydiff.solvers.seeds import SEEDS
from anydiff.states import NoiseSource, StateSpec

PATHS = [VPLinear(), VPCosine(), SubVP(), VE(), EDM()]


def rows(solver, path, grid) -> list[dict[str, float]]:
    return coefficients(build_plan(solver, path, grid, "stop"))


def close(a: list[dict[str, float]], b: list[dict[str, float]], tolerance: float) -> None:
    assert len(a) == len(b)
    for ra, rb in zip(a, b, strict=True):
        assert ra.keys() == rb.keys()
        np.testing.assert_allclose([ra[k] for k in ra], [rb[k] for k in ra], rtol=tolerance, atol=1e-14)


@pytest.mark.parametrize("path", [*PATHS, Flow()], ids=repr)
def test_the_first_order_sde_with_full_noise_is_ddpm(path) -> None:
    grid = time_grid(path, 7)
    for other in (DDIM(eta=1.0), DPMSolverPP(1, eta=1.0)):
        close(rows(other, path, grid), rows(DDPM(), path, grid), 1e-11)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_sde_without_noise_is_the_ode(degree: int) -> None:
    path = VPLinear()
    grid = time_grid(path, 7)
    ode = rows(DPMSolverPP(degree), path, grid)
    almost = rows(DPMSolverPP(degree, eta=1e-14), path, grid)
    # Without the noise columns, which have shrunk to sqrt(η).
    close([{k: v for k, v in row.items() if k[0] != "z"} for row in almost], ode, 1e-11)
    assert build_plan(DPMSolverPP(degree), path, grid).draws == 0


def test_eta_maps_to_that_of_ddim() -> None:
    """1 - e^{-2 η h} = η_ddim² (1 - e^{-2h}): the two agree at 0 and 1 only."""
    path, eta = VPLinear(), 0.4
    grid = [0.5, 0.3]
    h = path.log_snr(0.3) - path.log_snr(0.5)
    ddim_eta = math.sqrt(math.expm1(-2 * eta * h) / math.expm1(-2 * h))
    close(rows(DPMSolverPP(1, eta=eta), path, grid), rows(DDIM(ddim_eta), path, grid), 1e-12)
    assert ddim_eta != pytest.approx(eta, rel=0.05)


@pytest.mark.parametrize("form", ["midpoint", "taylor"])
def test_second_order_sde_rows_are_the_published_ones(form: str) -> None:
    path, eta = VPLinear(), 0.7
    grid = [0.7, 0.5, 0.2]
    row = rows(DPMSolverPP(2, eta=eta, form=form), path, grid)[-1]
    r, s, t = (Node(path, v) for v in grid)
    h = t.log_snr - s.log_snr
    g, ratio = (1 + eta) * h, (s.log_snr - r.log_snr) / h
    k = (1 - math.exp(-g)) / 2 if form == "midpoint" else (math.exp(-g) - 1) / g + 1
    assert row["D1"] == pytest.approx(-t.alpha * k / ratio, rel=1e-12)
    assert row["D2"] == pytest.approx(t.alpha * (1 - math.exp(-g)) + t.alpha * k / ratio, rel=1e-12)
    assert row["z2"] == pytest.approx(t.sigma * math.sqrt(1 - math.exp(-2 * eta * h)), rel=1e-12)


@pytest.mark.parametrize("path", [*PATHS, Flow()], ids=repr)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_point_mass_keeps_its_variance_at_every_noise_level(path, eta: float, degree: int) -> None:
    solvers = [DPMSolverPP(degree, eta=eta)] + ([DDIM(eta)] if degree == 1 and eta <= 1 else [])
    for solver in solvers:
        plan = build_plan(solver, path, time_grid(path, 6), "stop")
        mean, variance = mean_and_variance(plan, path, 0.8, 0.0)
        assert mean == pytest.approx(0.8 * path.alpha(path.t_end), rel=1e-11)
        assert variance == pytest.approx(path.sigma(path.t_end) ** 2, rel=1e-10)


def test_the_large_variance_of_ddpm_does_not_keep_it() -> None:
    path = VPLinear()
    plan = build_plan(DDPM("large"), path, time_grid(path, 6), "stop")
    assert mean_and_variance(plan, path, 0.8, 0.0)[1] > 1.5 * path.sigma(path.t_end) ** 2


@pytest.mark.parametrize(
    "name",
    [
        e.name
        for e in registry().entries("solvers")
        if e.metadata.get("states") == "numbers" and e.metadata["stochastic"]
    ],
)
@pytest.mark.parametrize(("path", "grid"), [(VPLinear(), "time"), (EDM(), "karras")], ids=["vp", "edm"])
def test_the_variance_of_gaussian_data_converges_with_the_weak_order(name: str, path, grid: str) -> None:
    # A Langevin step has a length of its own, which leaves a bias at any number of steps: the shorter, the smaller.
    solver = registry().build("solvers", name, **({"snr": 1e-4} if name == "predictor-corrector" else {}))
    target = path.alpha(path.t_end) ** 2 * 0.4**2 + path.sigma(path.t_end) ** 2
    errors = []
    for steps in (80, 160, 320, 640):
        mean, variance = mean_and_variance(
            build_plan(solver, path, time_grid(path, steps, grid), "stop"), path, 0.5, 0.4
        )
        errors.append(abs(variance - target))
        assert abs(mean - 0.5 * path.alpha(path.t_end)) < 0.05
    observed = math.log2(errors[1] / errors[3]) / 2
    # Higher is no fault: a Gaussian is an easy target.
    assert observed > solver.order - 0.2
    assert errors[-1] < 0.01


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_seeds_draws_have_the_variances_and_covariances_of_the_wiener_integral(stages: int) -> None:
    """Stage states of one step share their draws: Var and Cov must be those of one continuous noise path."""
    path = VPLinear()
    grid = [0.6, 0.35]
    s, t = (Node(path, v) for v in grid)
    plan = build_plan(SEEDS(stages), path, grid, "stop")
    registers = forms(plan, path, 0.0, 0.0, (0.0, 0.0))
    states = [i.out for i in plan.instructions if isinstance(i, Combine)]
    # Only the noise columns of each row, with the network's share (columns through M) taken out.
    table = {i.out: dict(i.terms) for i in plan.instructions if isinstance(i, Combine)}
    fractions = [(k + 1) / stages for k in range(stages)]
    h = t.log_snr - s.log_snr
    draws = [{k: v for k, v in table[state].items() if k[0] == "z"} for state in states]
    nodes = [s.at(s.log_snr + c * h) for c in fractions]
    nodes[-1] = t
    for c, node, row in zip(fractions, nodes, draws, strict=True):
        assert sum(v * v for v in row.values()) == pytest.approx(node.sigma**2 * math.expm1(2 * c * h), rel=1e-9)
    for early, late in ((i, j) for j in range(stages) for i in range(j)):
        covariance = sum(draws[early][k] * draws[late][k] for k in draws[early])
        variance = sum(v * v for v in draws[early].values())
        assert covariance == pytest.approx(variance * nodes[late].alpha / nodes[early].alpha, rel=1e-9)
    assert registers[plan.result].shape == (2 + stages,)


def test_seeds_1_and_2_are_the_published_rows() -> None:
    path = VPLinear()
    s, t = Node(path, 0.6), Node(path, 0.35)
    h = t.log_snr - s.log_snr
    (row,) = rows(SEEDS(1), path, [s.t, t.t])
    assert row["x0"] == pytest.approx(t.alpha / s.alpha, rel=1e-13)
    assert row["M1"] == pytest.approx(-2 * t.sigma * math.expm1(h), rel=1e-12)
    assert row["z1"] == pytest.approx(t.sigma * math.sqrt(math.expm1(2 * h)), rel=1e-12)
    u, x = rows(SEEDS(2), path, [s.t, t.t])
    middle = s.at(s.log_snr + h / 2)
    assert u["M1"] == pytest.approx(-2 * middle.sigma * math.expm1(h / 2), rel=1e-12)
    assert u["z1"] == pytest.approx(middle.sigma * math.sqrt(math.expm1(h)), rel=1e-12)
    assert "M1" not in x
    assert x["M2"] == pytest.approx(-2 * t.sigma * math.expm1(h), rel=1e-12)
    assert x["z1"] == pytest.approx(t.sigma * math.sqrt(math.exp(2 * h) - math.exp(h)), rel=1e-12)
    assert x["z2"] == pytest.approx(t.sigma * math.sqrt(math.expm1(h)), rel=1e-12)


def test_reverse_diffusion_and_ancestral_rows_of_score_sde() -> None:
    grid = [0.6, 0.5]
    vp, ve = VPLinear(), VE()
    s, t = Node(vp, 0.6), Node(vp, 0.5)
    beta = 1 - (s.alpha / t.alpha) ** 2
    (row,) = rows(PredictorCorrector(corrections=0), vp, grid)
    assert row["D1"] == pytest.approx(beta * s.alpha / s.sigma**2, rel=1e-12)
    assert row["x0"] == pytest.approx(2 - math.sqrt(1 - beta) - beta / s.sigma**2, rel=1e-12)
    assert row["z1"] == pytest.approx(math.sqrt(beta), rel=1e-12)
    # The mean of VP ancestral sampling, (x + β score)/sqrt(1 - β), is DDPM's posterior mean.
    (ddpm,) = rows(DDPM(), vp, grid)
    assert ddpm["D1"] == pytest.approx(beta * s.alpha / s.sigma**2 / math.sqrt(1 - beta), rel=1e-10)
    assert ddpm["x0"] == pytest.approx((1 - beta / s.sigma**2) / math.sqrt(1 - beta), rel=1e-10)
    s, t = Node(ve, 0.6), Node(ve, 0.5)
    (reverse,), (ancestral,) = rows(PredictorCorrector(corrections=0), ve, grid), rows(DDPM(), ve, grid)
    for name in ("x0", "D1"):
        assert reverse[name] == pytest.approx(ancestral[name], rel=1e-12)
    assert (ancestral["z1"] / reverse["z1"]) ** 2 == pytest.approx((t.sigma / s.sigma) ** 2, rel=1e-12)


def test_euler_ancestral_is_an_euler_step_down_and_noise_up() -> None:
    path = EDM()
    s, t = 3.0, 1.2
    up = t * math.sqrt(1 - t**2 / s**2)
    down = math.sqrt(t**2 - up**2)
    (row,) = rows(registry().build("solvers", "euler-ancestral"), path, [s, t])
    assert row["x0"] == pytest.approx(down / s, rel=1e-12)
    assert row["D1"] == pytest.approx(1 - down / s, rel=1e-12)
    assert row["z1"] == pytest.approx(up, rel=1e-12)


def test_langevin_alone_settles_at_the_marginal() -> None:
    generator = torch.Generator().manual_seed(0)
    variance, mean = 0.7, 0.3
    x = torch.randn(2000, 8, generator=generator, dtype=torch.float64) * 2
    for _ in range(1000):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = langevin(x, (mean - x) / variance, z, t=0.5, snr=0.1, scale=1.0, sigma=math.sqrt(variance))
    assert x.var().item() == pytest.approx(variance, rel=0.03)
    assert x.mean().item() == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize(("size", "most"), [(1, 0.1), (2, 0.06), (8, 0.02)])
def test_langevin_keeps_the_law_in_few_dimensions_where_a_sample_s_own_ratio_does_not(size: int, most: float) -> None:
    """A sample near the mode has no score: its own |z|/|∇| sends it far away (deviation 372 for 0.5 in one entry)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, size, generator=generator, dtype=torch.float64)
    for _ in range(200):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = langevin(x, -x, z, t=0.5, snr=0.16, scale=1.0, sigma=0.5)
    assert x.std().item() == pytest.approx(1.0, rel=most)


def test_the_length_of_a_langevin_step_is_each_sample_s_own_and_is_the_published_one_in_many_dimensions() -> None:
    generator = torch.Generator().manual_seed(0)
    x, score, z = (torch.randn(6, 4096, generator=generator, dtype=torch.float64) for _ in range(3))
    options = {"t": 0.5, "snr": 0.16, "scale": 0.9, "sigma": 1.0}
    together = langevin(x, score, z, **options)
    alone = torch.cat(
        [langevin(x[row : row + 1], score[row : row + 1], z[row : row + 1], **options) for row in range(6)]
    )
    assert torch.equal(together, alone)
    step = 2 * 0.9 * (0.16 * z.norm(dim=1).mean() / score.norm(dim=1).mean()) ** 2
    assert torch.allclose(together, x + step * score + torch.sqrt(2 * step) * z, atol=0.02)
    still = langevin(x, torch.zeros_like(x), z, **options)  # no score: the length is bounded by the noise level
    assert (still - x).std().item() == pytest.approx(math.sqrt(4 * 0.9 * 0.16**2 * (4096 + 8) / 8), rel=0.05)
    z[:, 100:] = 0.0  # absent entries count for nothing
    score[:, 100:] = 0.0
    moved = langevin(x, score, z, **options)
    assert torch.allclose(moved[:, :100], langevin(x[:, :100], score[:, :100], z[:, :100], **options))


def energy_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


@pytest.mark.parametrize("step", ["annealed", "norm"])
def test_a_corrector_improves_the_probability_flow_predictor(step: str) -> None:
    """Score-SDE's claim as the sheet reproduces it: VE, 30 steps, corrected at most 0.6 of the predictor alone."""
    path = VE(sigma_max=20.0, t_end=0.0)
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    oracle = GaussianMixtureOracle(path, torch.stack([angles.cos(), angles.sin()], 1), 0.1, torch.arange(1, 9))
    noise = NoiseSource(StateSpec.single((2,)), 0)
    start = torch.randn(1500, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * path.prior_std
    data = oracle.sample(3000, torch.Generator().manual_seed(2))
    distance = {}
    for corrections in (0, 1):
        solver = PredictorCorrector("probability-flow", corrections, step=step)
        plan = compile_plan(solver, path, 30 * (corrections + 1), "time", "stop")
        assert sum(isinstance(i, Apply) for i in plan.instructions) == 30 * corrections * (step == "norm")
        distance[corrections] = energy_distance(execute(plan, oracle, start, noise=noise), data)
    assert distance[1] <= 0.6 * distance[0]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: SEEDS(4), "stages is 4"),
        (lambda: DPMSolverPP(2, eta=-1.0), "eta is -1.0"),
        (lambda: DPMSolverPP(2, published=True), "published is set"),
        (lambda: PredictorCorrector("reverse"), "unknown predictor 'reverse'; did you mean 'reverse-diffusion'"),
        (lambda: PredictorCorrector(snr=0.0), "snr is 0.0"),
    ],
)
def test_options_out_of_range_are_told_in_one_sentence(build, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        build()
