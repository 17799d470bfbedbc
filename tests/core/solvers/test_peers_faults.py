"""The faults that were measured in other libraries (docs/peers.md): each is looked for here. No peer is needed."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import torch
from exact import gaussian, gaussian_clean, gaussian_flow, mixture, root_mean_square, slopes, solver_entries, starts

from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.denoisers.wrappers import DynamicThreshold
from anydiff.paths import EDM, VE, Flow, SubVP, VPCosine, VPLinear
from anydiff.paths.grids import GRIDS, time_grid
from anydiff.samplers import sample
from anydiff.solvers import compile_plan, execute
from anydiff.solvers.plan import Combine, Evaluate
from anydiff.states import NoiseSource, StateSpec

PATH = VPLinear()
SPEC = StateSpec.single((2,))
DETERMINISTIC = [e.name for e in solver_entries(stochastic=False)]
ALL = [e.name for e in solver_entries()]
#: Runge-Kutta methods in time follow a ray of straight motion only up to their own error.
IN_TIME = ("euler", "heun", "interpolant", "midpoint", "rk4")
PATHS = [VPLinear(), VPCosine(), SubVP(), VE(), EDM(), Flow()]


def error(plan, path=PATH):
    x = starts(path)
    return root_mean_square(execute(plan, gaussian(path), x) - gaussian_clean(path, x, path.t_start))


# The final step


def test_no_full_jump_from_the_last_node():
    """From the exact state at σ_min: the default end errs 20 times less than stopping there, and than the full jump."""
    x = gaussian_flow(PATH, starts(PATH), PATH.t_start, PATH.t_end)
    clean = gaussian_clean(PATH, starts(PATH), PATH.t_start)
    data = gaussian(PATH)(x, PATH.t_end)
    grid = [PATH.t_end * (1 + 1e-9), PATH.t_end]
    ended = execute(compile_plan("ddim", PATH, 1, grid), gaussian(PATH), x)
    stopped = root_mean_square(x / PATH.alpha(PATH.t_end) - clean)
    jumped = root_mean_square(data - clean)
    assert 20 * root_mean_square(ended - clean) < min(stopped, jumped)


def test_no_floor_at_the_last_noise_level():
    """Where the full jump stalls (near 4e-4) however many steps are made, the default goes on."""
    floor = [error(compile_plan("dpm-solver++-3m", PATH, nfe, end="denoise")) for nfe in (100, 200)]
    free = [error(compile_plan("dpm-solver++-3m", PATH, nfe)) for nfe in (100, 200)]
    assert floor[1] > 0.8 * floor[0] > 1e-5
    assert free[1] < 0.1 * floor[1]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ALL)
def test_no_call_is_wasted_and_no_step_is_empty(name, grid):
    """Every call is at its own (state, time), its result is used, and no two nodes coincide."""
    for nfe in (8, 13):
        plan = compile_plan(name, PATH, nfe, grid)
        assert all(s > t for s, t in itertools.pairwise(plan.nodes))
        calls = [(i.state, i.t) for i in plan.instructions if isinstance(i, Evaluate)]
        assert len(set(calls)) == len(calls) <= nfe
        read = {register for i in plan.instructions for register in i.inputs}
        assert all(i.out in read or i.out == plan.result for i in plan.instructions)


@pytest.mark.parametrize("end", ["clean", "denoise", "stop"])
@pytest.mark.parametrize("name", ALL)
def test_no_nan_at_any_end_or_budget(name, end):
    """bh1, third order, long plans, and every way to end: finite."""
    for nfe in (4, 5, 15, 30):
        plan = compile_plan(name, PATH, nfe, end=end)
        out = execute(plan, mixture(PATH), starts(PATH, 4), noise=NoiseSource(SPEC, 0))
        assert bool(torch.isfinite(out).all())
    bh1 = compile_plan("unipc-2", PATH, 10, end=end, variant="bh1")
    assert bool(torch.isfinite(execute(bh1, mixture(PATH), starts(PATH, 4))).all())


def test_the_flow_path_reaches_the_data():
    """The last call is not spent on a step from a tiny noise level: 10 calls of Euler make 10 equal steps of time."""
    plan = compile_plan("euler", Flow(), 10, "time")
    assert len(plan.nodes) == 11
    np.testing.assert_allclose(np.diff(plan.nodes), (Flow().t_end - 1) / 10, rtol=1e-12)


# Off by one, rounding, schedule


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if name not in IN_TIME])
def test_the_network_is_told_the_noise_level_of_its_state(name):
    """On data that is one point, every state lies on the ray α m + σ ε: a wrong level at any call would show."""
    point = torch.tensor([[0.4, -0.7]], dtype=torch.float64)
    noise = starts(PATH, 1)
    seen = []

    def data(x, t):
        seen.append(float((x - PATH.alpha(t) * point - PATH.sigma(t) * noise).abs().max()))
        return point.expand_as(x)

    x = PATH.alpha(1.0) * point + PATH.sigma(1.0) * noise
    for grid in (*GRIDS, [1.0, 0.7312345, 0.31, 0.1234567, 0.0501, 0.003]):
        plan = compile_plan(name, PATH, 5)
        if isinstance(grid, list) and len(plan.nodes) != len(grid):
            continue  # five calls make five steps of most solvers only
        execute(compile_plan(name, PATH, 5, grid), FunctionDenoiser(data, PATH), x)
    assert len(seen) >= 16
    assert max(seen) < 1e-9


@pytest.mark.parametrize("nfe", [150, 300, 400, 600])
def test_no_off_by_one_where_the_steps_do_not_divide_a_thousand(nfe):
    """DDIM's error goes on falling like 1/n (elsewhere it rises from 7e-3 to 0.14)."""
    assert (
        error(compile_plan("ddim", PATH, nfe, "time")) * nfe
        < 1.2 * error(compile_plan("ddim", PATH, 100, "time")) * 100
    )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_grids_have_no_duplicates_and_no_integers(path, grid):
    """Also on the cosine path, with Karras levels, from 10 steps to 1000."""
    for steps in (1, 10, 40, 1000):
        nodes = time_grid(path, steps, grid)
        assert all(s > t for s, t in itertools.pairwise(nodes))
        assert len(nodes) == steps + 1
        assert (nodes[0], nodes[-1]) == (path.t_start, path.t_end)


def test_the_schedule_is_float64():
    """σ near t = 0, where 1 - α² in float32 is wrong by 1e-4, against its series and against σ² + α² = 1."""
    for t in (1e-3, 1e-4, 1e-6):
        integral = 0.1 * t + 19.9 * t**2 / 2
        expected = math.sqrt(-math.expm1(-integral))
        assert abs(PATH.sigma(t) / expected - 1) < 1e-13
        assert abs(PATH.log_snr(PATH.time(PATH.log_snr(t))) - PATH.log_snr(t)) < 1e-10


def test_third_order_has_its_factor_two():
    """3M converges with order 3; the form that is commonly copied, with 2 (test_orders tests every declared order)."""
    counts = (40, 80, 160)
    exact = slopes(counts, [error(compile_plan("dpm-solver++-3m", PATH, n)) for n in counts])
    copied = slopes(counts, [error(compile_plan("dpm-solver++-3m", PATH, n, published=True)) for n in counts])
    assert exact > 2.6
    assert copied < 2.5


@pytest.mark.parametrize("name", ["deis-3", "adams-4", "unipc-3", "lms"])
def test_no_precision_is_lost_when_steps_get_close(name):
    """At 400 steps the error is not larger than at 50 (DEIS-3 elsewhere: 1.2e-4, then 1.9e-2)."""
    assert error(compile_plan(name, PATH, 400)) < error(compile_plan(name, PATH, 50))


def test_lower_order_final_is_an_option_at_every_budget():
    """It is what it says for 8, 12 and 40 steps: the last row has one prediction; without it, all of them."""
    for nfe in (8, 12, 40):
        for asked in (True, False):
            plan = compile_plan("adams-3", PATH, nfe, end="stop", lower_order_final=asked)
            last = [i for i in plan.instructions if isinstance(i, Combine)][-1]
            assert len(last.terms) == (2 if asked else 4)


# Randomness


@pytest.mark.parametrize("name", ALL)
def test_the_global_random_state_is_never_touched(name):
    before = torch.get_rng_state()
    plan = compile_plan(name, PATH, 6)
    execute(plan, mixture(PATH), starts(PATH, 3), noise=NoiseSource(SPEC, 5))
    assert torch.equal(torch.get_rng_state(), before)
    if name in DETERMINISTIC:
        assert plan.draws == 0


def test_zero_noise_draws_nothing():
    """η = 0 and churn = 0 leave no draw in the plan."""
    for name, options in (("ddim", {"eta": 0.0}), ("edm", {}), ("sde-dpm-solver++-2m", {"eta": 0.0})):
        assert compile_plan(name, PATH, 8, **options).draws == 0


@pytest.mark.parametrize("name", ALL)
def test_a_second_run_gives_the_same_numbers(name):
    """No state is kept between runs, of any length, and the seed is given at the call."""
    plan, other = compile_plan(name, PATH, 8), compile_plan(name, PATH, 5)

    def run(plan, seed):
        return execute(plan, mixture(PATH), starts(PATH, 3), noise=NoiseSource(SPEC, seed))

    first = run(plan, 0)
    run(other, 1)
    assert torch.equal(run(plan, 0), first)
    assert torch.equal(run(plan, 1), first) == (name in DETERMINISTIC)


# Interfaces


def test_nothing_is_clipped_unless_asked():
    """Data at 5 is reached, and a threshold is a guidance that one names."""
    oracle = GaussianMixtureOracle(PATH, torch.tensor([[5.0, -4.0]]), 0.1)
    free = sample(oracle, (2,), 64, nfe=20)
    assert root_mean_square(free.mean(0) - torch.tensor([5.0, -4.0])) < 0.1
    held = sample(oracle, (2,), 64, nfe=20, guidance=DynamicThreshold())
    assert float(held.abs().max()) < 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (1, 4, 4), (2, 2, 2, 2)])
def test_states_of_every_rank_and_precision(shape, dtype):
    oracle = GaussianMixtureOracle(PATH, torch.zeros(1, *shape), 0.5)
    for name in ("unipc-3", "dpm-solver++-3m", "deis-3"):
        out = sample(oracle, shape, 2, nfe=8, solver=name, dtype=dtype)
        assert out.dtype == dtype
        assert out.shape == (2, *shape)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_printed_and_the_shortest_plan_runs(name, capsys):
    """One step works (elsewhere UnboundLocalError at one step; PNDM below four)."""
    shortest = next(n for n in range(1, 13) if _compiles(name, n))
    assert shortest <= 3
    out = execute(compile_plan(name, PATH, shortest), mixture(PATH), starts(PATH, 2), noise=NoiseSource(SPEC, 0))
    assert bool(torch.isfinite(out).all())
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def _compiles(name, nfe):
    from anydiff.errors import AnydiffError

    try:
        return bool(compile_plan(name, PATH, nfe))
    except AnydiffError:
        return False


@pytest.mark.timing
def test_a_noise_draw_of_a_stochastic_solver_costs_no_tree():
    """Ten draws of SDE-DPM-Solver++ at 1e3 floats take less than 30 times the update (elsewhere 900 floors)."""
    import time

    shape = StateSpec.single((100,))
    constant = torch.zeros(10, 100)
    denoiser = FunctionDenoiser(lambda x, t: constant, PATH)
    plan = compile_plan("sde-dpm-solver++-2m", PATH, 20)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        execute(plan, denoiser, torch.randn(10, 100, generator=torch.Generator()), noise=NoiseSource(shape, 0))
        times.append((time.perf_counter() - begin) / 20)
    assert statistics.median(times) < 3.4e-3
