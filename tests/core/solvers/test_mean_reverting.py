"""Mean-reverting paths: every solver works on them, and the rows are those of MR Sampler."""

import math

import numpy as np
import pytest
import torch
from tables import coefficients

from anydiff.denoisers import FunctionDenoiser, GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.paths import MeanReverting, VPLinear, time_grid
from anydiff.paths.mean_reverting import RATES
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.adams import ExponentialAdams
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.program import Node
from anydiff.states import Conditioning, NoiseSource, StateSpec

PATH = MeanReverting()
M, C, MU = torch.tensor([0.6, 0.3], dtype=torch.float64), 0.1, torch.tensor([[0.2, 0.9]], dtype=torch.float64)


def oracle(path: MeanReverting) -> FunctionDenoiser:
    """E[x_0 | x_t, μ] for x_0 ~ N(M, C²): the ordinary oracle in y = x - μ."""

    def data(x, t, condition):
        mu = path.given(condition)["mu"]
        return GaussianOracle(path, torch.zeros(2), C**2).posterior_mean(x - mu, t, M - mu) + mu

    return FunctionDenoiser(data, path)


@pytest.mark.parametrize("rate", RATES)
def test_the_marginal_is_that_of_the_sde(rate: str) -> None:
    path = MeanReverting(rate=rate)
    assert path.alpha(1.0) == pytest.approx(0.005)
    for t in (0.05, 0.3, 0.9):
        theta = -path.drift(t)
        assert theta > 0
        assert path.squared_diffusion(t) == pytest.approx(2 * path.noise**2 * theta, rel=1e-9)
        assert path.time(path.log_snr(t)) == pytest.approx(t, rel=1e-10)
    c = path.coefficients(torch.tensor([0.4], dtype=torch.float64))
    assert float(c["x0"] + c["mu"]) == pytest.approx(1.0)


def test_rows_are_those_of_mr_sampler() -> None:
    grid = [0.7, 0.5, 0.2]
    r, s, t = (Node(PATH, v) for v in grid)
    h = t.log_snr - s.log_snr
    ratio = (s.log_snr - r.log_snr) / h
    ode = coefficients(build_plan(DPMSolverPP(2, form="taylor"), PATH, grid, "stop"))[-1]
    weight = t.alpha * (1 - math.exp(-h))
    second = t.alpha * (1 - (1 - math.exp(-h)) / h) / ratio
    assert ode["D2"] == pytest.approx(weight + second, rel=1e-10)
    assert ode["D1"] == pytest.approx(-second, rel=1e-10)
    assert ode["mu"] == pytest.approx(1 - t.sigma / s.sigma + t.sigma / s.sigma * s.alpha - t.alpha, rel=1e-9)
    sde = coefficients(build_plan(DPMSolverPP(1, eta=1.0), PATH, grid, "stop"))[-1]
    drop = math.exp(-2 * h)
    assert sde["mu"] == pytest.approx(1 - t.alpha / s.alpha * drop - t.alpha * (1 - drop), rel=1e-9)
    # Posterior sampling, the published baseline, is SDE-1-D.
    b, c = s.alpha, t.alpha
    assert sde["D2"] == pytest.approx(c * (1 - (b / c) ** 2) / (1 - b**2), rel=1e-9)
    assert sde["x0" if "x0" in sde else "x1"] == pytest.approx(b / c * (1 - c**2) / (1 - b**2), rel=1e-9)


@pytest.mark.parametrize("name", [e.name for e in registry().entries("solvers") if e.metadata.get("kind") != "classes"])
def test_every_row_keeps_a_fixed_point_and_follows_a_shift(name: str) -> None:
    """x = μ = D stays; and running with (x, μ, D) is running with (x - μ, 0, D - μ) plus μ."""
    plan = compile_plan(name, PATH, 8)
    noise = NoiseSource(StateSpec.single((2,)), 0)
    x = MU + PATH.noise * torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = execute(plan, oracle(PATH), x, noise=noise, condition=Conditioning(sources={"mu": MU.expand(5, 2)}))
    shifted = FunctionDenoiser(lambda y, t: oracle(PATH)(y + MU, t, Conditioning(sources={"mu": MU})) - MU, PATH)
    zero = execute(
        plan,
        shifted,
        x - MU,
        noise=noise,
        condition=Conditioning(sources={"mu": torch.zeros(5, 2, dtype=torch.float64)}),
    )
    scale = float(result.abs().max()) + 1
    assert torch.allclose(result, zero + MU, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("solver", [DPMSolverPP(2, form="taylor"), ExponentialAdams(2)], ids=repr)
def test_order_and_endpoint_on_gaussian_data(solver) -> None:
    s, t = PATH.t_start, PATH.t_end
    x = MU + PATH.noise * torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, m = x - MU, M - MU

    def std(v: float) -> float:
        return math.hypot(PATH.alpha(v) * C, PATH.sigma(v))

    exact = MU + PATH.alpha(t) * m + std(t) / std(s) * (y - PATH.alpha(s) * m)
    errors = []
    for steps in (40, 80, 160):
        plan = build_plan(solver, PATH, time_grid(PATH, steps, "log-snr"), "stop")
        result = execute(plan, oracle(PATH), x, condition=Conditioning(sources={"mu": MU.expand(50, 2)}))
        errors.append(float((result - exact).square().mean().sqrt()))
    assert errors[-1] < 1e-4
    assert np.log2(errors[1] / errors[2]) > 1.7


def test_sample_starts_at_mu_and_reaches_the_data() -> None:
    mu = MU.float().expand(2000, 2)
    result = sample(oracle(PATH), (2,), 2000, nfe=20, condition={"mu": mu}, dtype=torch.float64)
    assert torch.allclose(result.mean(0), M, atol=0.01)
    assert torch.allclose(result.std(0), torch.full((2,), C, dtype=torch.float64), rtol=0.05)


def test_with_mu_zero_and_unit_noise_the_rows_are_those_of_vp() -> None:
    path, vp = MeanReverting(noise=1.0), VPLinear()
    levels = np.linspace(-3, 4, 6)
    tables = [
        coefficients(build_plan(DPMSolverPP(2, eta=1.0), p, [p.time(v) for v in levels], "stop")) for p in (path, vp)
    ]
    for a, b in zip(*tables, strict=True):
        a.pop("mu", None)
        assert [a[k] for k in b] == pytest.approx(list(b.values()), rel=1e-9, abs=1e-12)


def test_a_missing_mu_is_told() -> None:
    with pytest.raises(AnydiffError, match="constant 'mu'"):
        execute(compile_plan("ddim", PATH, 3), oracle(PATH), MU)
    with pytest.raises(AnydiffError, match="remaining is 2"):
        MeanReverting(remaining=2.0)
    with pytest.raises(AnydiffError, match="did you mean 'cosine'"):
        MeanReverting(rate="cosin")
