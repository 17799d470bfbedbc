"""Budgets, starting rules and known numbers of the families: PNDM, singlestep, Runge-Kutta in time, UniPC."""

import functools
import math

import pytest
import torch

from anydiff.denoisers import GaussianMixtureOracle, GaussianOracle
from anydiff.paths import EDM, Flow, VPLinear, time_grid
from anydiff.registry import registry
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.adams import ExponentialAdams
from anydiff.solvers.dpm_solver import DPMSolver
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.plan import Evaluate
from anydiff.solvers.pndm import PNDM
from anydiff.solvers.runge_kutta import RK4, ClassicalRungeKutta, Midpoint
from anydiff.solvers.uni_pc import UniPC

VP = VPLinear()


@functools.cache
def mixture() -> GaussianMixtureOracle:
    """W2 of the sheets."""
    means = torch.tensor([[-1, 0], [0.7, 0.8], [0.6, -0.9]], dtype=torch.float64)
    return GaussianMixtureOracle(VP, means, 0.3, torch.tensor([1.0, 2.0, 3.0]))


@functools.cache
def start() -> torch.Tensor:
    return torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@functools.cache
def endpoint() -> torch.Tensor:
    return execute(build_plan(UniPC(3), VP, time_grid(VP, 1000, "log-snr"), "stop"), mixture(), start())


def rmse(solver, grid: str, nfe: int) -> float:
    result = execute(compile_plan(solver, VP, nfe, grid, "stop"), mixture(), start())
    return float((result - endpoint()).square().mean().sqrt())


@pytest.mark.parametrize("nfe", range(1, 60))
def test_budgets_are_spent_exactly(nfe: int) -> None:
    for solver in [
        PNDM(4), PNDM(2, "euler"), PNDM(4, "euler"), PNDM(3), DPMSolver(1), DPMSolver(2), DPMSolver(3),
        DPMSolver(3, fast=True), RK4(), Midpoint(), ClassicalRungeKutta(3),
    ]:  # fmt: skip
        assert compile_plan(solver, VP, nfe).nfe == nfe, solver
        # From pure noise a step may cost less, never more.
        assert compile_plan(solver, Flow(), nfe).nfe <= nfe


def test_pndm_steps_per_budget() -> None:
    for nfe in range(13, 60):
        assert PNDM(4).steps(nfe) == nfe - 9
    for nfe in range(3, 60):
        assert PNDM(2, "euler").steps(nfe) == PNDM(4, "euler").steps(nfe) == nfe - 1
    for nfe in range(1, 13):  # too few for the Runge-Kutta start
        short, plms = (compile_plan(PNDM(4, start), VP, nfe).instructions for start in ("runge-kutta", "euler"))
        assert short == plms


def test_pseudo_runge_kutta_calls_stand_at_the_nodes_and_halfway() -> None:
    plan = build_plan(PNDM(4), VP, time_grid(VP, 5, "time"))
    times = [i.t for i in plan.instructions if isinstance(i, Evaluate)]
    s, t = plan.nodes[:2]
    assert times[:4] == pytest.approx([s, (s + t) / 2, (s + t) / 2, t])
    assert times[4] == times[3]  # the same time again, with another state
    assert len(times) == 3 * 4 + 2


def test_pndm_is_twenty_times_faster_than_ddim() -> None:
    """The paper's claim as the sheet reproduces it, on uniform times."""
    plms, ddim = rmse(PNDM(4, "euler"), "time", 50), registry().build("solvers", "ddim")
    assert plms <= 0.7 * rmse(ddim, "time", 1000)
    assert plms <= 0.3 * rmse(ddim, "time", 250)


def test_unipc_beats_2m_as_published() -> None:
    assert rmse(UniPC(2), "log-snr", 15) <= 0.75 * rmse(DPMSolverPP(2), "log-snr", 15)
    assert rmse(UniPC(3), "log-snr", 50) <= 0.3 * rmse(DPMSolverPP(2), "log-snr", 50)


def test_dpm_solver_fast_beats_ddim_as_published() -> None:
    ddim, fast = registry().build("solvers", "ddim"), DPMSolver(3, fast=True)
    for nfe, ratio in ((20, 0.45), (50, 0.3)):
        best = min(rmse(ddim, grid, nfe) for grid in ("time", "quadratic", "log-snr"))
        assert rmse(fast, "log-snr", nfe) <= ratio * best


@pytest.mark.parametrize(
    ("solver", "low", "high"),
    [
        (DPMSolver(2), 1.9, 2.2),
        (DPMSolver(3), 2.8, 3.1),
        (DPMSolver(3, "data"), 2.7, 3.1),
        (DPMSolverPP(2), 1.8, 2.2),
        (DPMSolverPP(3), 2.8, 3.4),
        (DPMSolverPP(3, published=True), 1.8, 2.4),
        (UniPC(1), 1.9, 2.1),
        (UniPC(2), 2.8, 3.2),
        (UniPC(2, "noise"), 2.7, 3.2),
        (ExponentialAdams(3), 2.8, 3.1),
        (ExponentialAdams(4), 3.8, 4.3),
        (ExponentialAdams(4, variable="time"), 3.6, 4.1),
        (PNDM(4), 1.8, 2.1),
        (ClassicalRungeKutta(2), 1.8, 2.1),
        (ClassicalRungeKutta(3), 2.7, 3.5),
        (ClassicalRungeKutta(4), 3.8, 4.1),
    ],
    ids=repr,
)
def test_observed_orders_of_the_sheets(solver, low: float, high: float) -> None:
    errors = []
    for steps in (80, 160):
        plan = build_plan(solver, VP, time_grid(VP, steps, "log-snr"), "stop")
        errors.append(float((execute(plan, mixture(), start()) - endpoint()).square().mean().sqrt()))
    assert low <= math.log2(errors[0] / errors[1]) <= high


def test_dpm_solver_3_on_a_gaussian_has_the_errors_of_the_sheet() -> None:
    path = VPLinear(t_end=1e-2)
    mean = torch.tensor([0.5, -0.3], dtype=torch.float64)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s, t = path.t_start, path.t_end
    ratio = math.sqrt(
        (path.alpha(t) ** 2 * 0.16 + path.sigma(t) ** 2) / (path.alpha(s) ** 2 * 0.16 + path.sigma(s) ** 2)
    )
    exact = path.alpha(t) * mean + ratio * (x - path.alpha(s) * mean)
    for steps, most in ((10, 4e-3), (20, 4e-4), (30, 1e-4)):
        plan = build_plan(DPMSolver(3), path, time_grid(path, steps, "log-snr"), "stop")
        assert float((execute(plan, GaussianOracle(path, mean, 0.16), x) - exact).abs().max()) < most


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_runge_kutta_in_the_noise_level_is_that_in_time_where_time_is_the_noise_level(stages: int) -> None:
    """On the EDM path κ = t; and one stage is DDIM on every path, whose x/α depends on the levels κ alone."""
    edm, levels = EDM(), [80.0, 10.0, 1.0, 0.1]
    oracle = GaussianOracle(edm, torch.tensor([0.5, -0.3]), 0.16)
    x = 80 * start()[:8]
    in_level, in_time = (
        execute(build_plan(ClassicalRungeKutta(stages, variable), edm, levels, "stop"), oracle, x)
        for variable in ("noise-level", "time")
    )
    torch.testing.assert_close(in_level, in_time, rtol=1e-12, atol=1e-12)
    times = [VP.time(-math.log(level)) for level in levels]
    vp = GaussianOracle(VP, torch.tensor([0.5, -0.3]), 0.16)
    plan = build_plan(ClassicalRungeKutta(stages, "noise-level"), VP, times, "stop")
    on_vp = execute(plan, vp, x * VP.alpha(times[0])) / VP.alpha(times[-1])
    torch.testing.assert_close(on_vp, in_level, rtol=1e-10, atol=1e-10)
    if stages == 1:
        ddim = execute(build_plan(registry().build("solvers", "ddim"), edm, levels, "stop"), oracle, x)
        torch.testing.assert_close(in_level, ddim, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [e.name for e in registry().entries("solvers") if e.metadata.get("kind") != "classes"])
def test_the_table_tells_what_the_solver_tells(name: str) -> None:
    entry = registry().get("solvers", name)
    solver = registry().build("solvers", name)
    assert solver.order == entry.metadata["order"]
    assert solver.calls_per_step == entry.metadata["calls_per_step"]
    plan = compile_plan(solver, VP, 12)
    assert (plan.draws > 0) == entry.metadata["stochastic"]


@pytest.mark.parametrize("name", [e.name for e in registry().entries("solvers") if e.metadata.get("kind") != "classes"])
def test_a_grid_that_ends_at_clean_data_needs_no_special_case(name: str) -> None:
    """λ = ∞ at the last node: the step there is of first order, x = D."""
    path = Flow(t_end=0.0)
    plan = compile_plan(name, path, 9, "time", "stop")
    from anydiff.states import NoiseSource, StateSpec

    oracle = GaussianOracle(path, torch.tensor([0.5, -0.3]), 0.16)
    result = execute(plan, oracle, start(), noise=NoiseSource(StateSpec.single((2,)), 0))
    assert result.abs().max() < 1e5
