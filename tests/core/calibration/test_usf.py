"""The space of solvers: known methods are points of it, and what it promises of every point."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact import mixture, starts

from anydiff.denoisers import FunctionDenoiser
from anydiff.errors import AnydiffError
from anydiff.paths import EDM, Flow, VPLinear
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.adams import ExponentialAdams, step_order
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.dpm_solver_v3 import DPMSolverV3, Statistics
from anydiff.solvers.plan import Plan
from anydiff.solvers.uni_pc import UniPC
from anydiff.solvers.usf import CORRECTORS, USF, Record
from anydiff.solvers.velocity_adams import VelocityAdams

PATH = VPLinear()


def uniform(kind, order, steps, corrector="none", final=True, **options):
    """The same decisions at every step, the order as the history (and the end) allow."""
    return USF(tuple(Record(kind, step_order(order, i, steps, final), corrector=corrector, **options)
                     for i in range(steps)))  # fmt: skip


def difference(one, other, path=PATH, steps=8, grid="log-snr"):
    """The largest difference of the ends of two solvers on a mixture."""
    ends = [execute(compile_plan(each, path, steps, grid), mixture(path), starts(path)) for each in (one, other)]
    return float((ends[0] - ends[1]).abs().max())


def test_uni_pc_with_exact_weights_is_a_point():
    """UniPC sets weights to 1/2 only where two predictions predict and one is corrected; elsewhere both are exact."""
    usf, uni = uniform("data", 3, 8, "pseudo"), UniPC(3, lower_order_final=True)
    plans = [build_plan(each, PATH, PATHS, "stop") for each in (usf, uni)]
    rows = [[i for i in plan.instructions if hasattr(i, "terms")] for plan in plans]
    assert [set(dict(row.terms)) for row in rows[0][4:6]] == [set(dict(row.terms)) for row in rows[1][4:6]]
    for mine, theirs in zip(rows[0][4:6], rows[1][4:6], strict=True):
        for register, factor in mine.terms:
            assert factor == pytest.approx(dict(theirs.terms)[register], rel=1e-12, abs=1e-14)


PATHS = [PATH.time(v) for v in np.linspace(-5, 4, 9)]


@pytest.mark.parametrize("path", [PATH, EDM(), Flow()], ids=repr)
@pytest.mark.parametrize(
    ("kind", "other"),
    [("data", DPMSolverPP(3, form="taylor", lower_order_final=True)),
     ("noise", ExponentialAdams(3, "noise", lower_order_final=True)),
     ("velocity", VelocityAdams(3, corrector=False, lower_order_final=True)),
     ("data-time", UniPC(3, corrector=False, variable="time", lower_order_final=True))],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_multistep_methods_are_points(path, kind, other):
    assert difference(uniform(kind, 3, 8), other, path) < 1e-9 * path.prior_std


def test_velocity_adams_with_its_corrector_is_a_point():
    assert difference(uniform("velocity", 3, 8, "pseudo"), VelocityAdams(3, lower_order_final=True)) < 1e-12
    assert difference(uniform("velocity", 5, 8, "pseudo"), VelocityAdams(5, lower_order_final=True)) < 1e-12


@pytest.mark.parametrize(("kind", "other"), [("data", DPMSolverPP(2)), ("noise", "dpm-solver-2m-noise")])
def test_the_midpoint_preset_is_2m(kind, other):
    usf = uniform(kind, 2, 8, final=False, preset="midpoint")
    if kind == "data":
        assert difference(usf, other) < 1e-12
        return
    oracle, x = mixture(PATH), starts(PATH)
    plan = compile_plan(usf, PATH, 8, "log-snr", "stop")
    end, past = x, []
    for s, t in zip(plan.nodes, plan.nodes[1:], strict=False):  # DPM-Solver-2M by hand
        eps = (end - PATH.alpha(s) * oracle(end, s)) / PATH.sigma(s)
        h = PATH.log_snr(t) - PATH.log_snr(s)
        past = [(s, eps), *past][:2]
        if len(past) == 2:
            eps = eps + h / (2 * (PATH.log_snr(s) - PATH.log_snr(past[1][0]))) * (eps - past[1][1])
        end = PATH.alpha(t) / PATH.alpha(s) * end - PATH.sigma(t) * math.expm1(h) * eps
    torch.testing.assert_close(execute(plan, oracle, x), end, rtol=0, atol=1e-11)


def statistics(points=201):
    log_snr = np.linspace(*PATH.log_snr_range(), points)
    times = np.array([1.0, *(PATH.time(v) for v in log_snr[1:-1]), PATH.t_end])
    log_snr = np.array([PATH.log_snr(float(t)) for t in times])
    linear = 1 / (1 + 0.3 * np.exp(2 * log_snr))[:, None]
    return Statistics(times, log_snr, linear, linear - 1, 0.5 - linear / 2, np.zeros(1, np.int64))


def test_steps_by_statistics_are_dpm_solver_v3():
    own = statistics()
    usf = USF(tuple(Record("statistics", min(3, i + 1)) for i in range(8)), statistics=own)
    assert difference(usf, DPMSolverV3(own, corrector=False)) < 1e-11
    relaxed = USF(tuple(replace(r, relax=0.05) for r in usf.records), statistics=own)
    assert difference(usf, relaxed) > 1e-5


def any_records(rng, steps, kinds):
    """Random decisions that are allowed."""
    made = []
    for i in range(steps):
        order = int(rng.integers(1, min(4, i + 1) + 1))
        others = rng.permutation(np.arange(1, i + 1))[: order - 1] if i else []
        made.append(Record(str(rng.choice(kinds)), order, tuple(int(p) for p in others), float(rng.normal(0, 0.03)),
                           low=int(rng.integers(0, order)), corrector=str(rng.choice(CORRECTORS))))  # fmt: skip
    return tuple(made)


@pytest.mark.parametrize("seed", range(4))
def test_a_point_of_data_is_exact_for_every_decision(seed):
    rng = np.random.default_rng(seed)
    point = FunctionDenoiser(lambda x, t: torch.full_like(x, 0.4), PATH)
    usf = USF(any_records(rng, 6, ("data", "noise", "velocity", "data-time")))
    plan = compile_plan(usf, PATH, usf.calls, "log-snr", "stop")
    assert plan.nfe == usf.calls
    x = starts(PATH)
    exact = PATH.alpha(PATH.t_end) * 0.4 + PATH.sigma(PATH.t_end) / PATH.sigma(1.0) * (x - PATH.alpha(1.0) * 0.4)
    torch.testing.assert_close(execute(plan, point, x), exact, rtol=0, atol=1e-10)


def test_points_may_be_named_in_any_order_and_the_plan_is_data():
    own = USF(any_records(np.random.default_rng(3), 6, ("data", "noise", "velocity")))
    turned = USF(tuple(replace(r, points=r.used[::-1], low=0) for r in own.records))
    straight = USF(tuple(replace(r, low=0) for r in own.records))
    assert difference(straight, turned, steps=own.calls) < 1e-12
    plan = compile_plan(own, PATH, own.calls)
    assert Plan.from_json(plan.to_json()) == plan
    ends = [execute(plan, mixture(PATH), starts(PATH)) for _ in range(2)]
    assert torch.equal(*ends)


def test_a_small_factor_keeps_the_order():
    def error(steps):
        nodes = [PATH.time(v) for v in np.linspace(-3, 2, steps + 1)]
        own = USF(tuple(Record("data", min(2, i + 1), relax=0.03) for i in range(steps)))
        fine = [PATH.time(v) for v in np.linspace(-3, 2, 641)]
        exact = execute(build_plan(ExponentialAdams(4), PATH, fine, "stop"), mixture(PATH), starts(PATH))
        return float((execute(build_plan(own, PATH, nodes, "stop"), mixture(PATH), starts(PATH)) - exact).norm())

    assert 1.8 < math.log2(error(40) / error(80)) < 2.3


def test_an_analytic_first_output_costs_no_call():
    zero = USF((Record(), Record()), first="zero")
    plan = compile_plan(zero, PATH, 1, "log-snr", "stop")
    assert plan.nfe == 1
    first = plan.instructions[0]
    s, t = plan.nodes[:2]
    assert first.terms == (("x0", pytest.approx(PATH.sigma(t) / PATH.sigma(s), rel=1e-14)),)
    mean = USF(tuple(Record("data", min(3, i + 1)) for i in range(5)), first="mean", mean=0.4)
    point = FunctionDenoiser(lambda x, t: torch.full_like(x, 0.4), PATH)
    plain = compile_plan("ddim", PATH, 5, "log-snr")
    torch.testing.assert_close(execute(compile_plan(mean, PATH, 4, "log-snr"), point, starts(PATH)),
                               execute(plain, point, starts(PATH)), rtol=0, atol=1e-12)  # fmt: skip


def test_an_implicit_corrector_costs_a_call_and_the_budget_holds():
    own = USF((Record(corrector="implicit"), Record("data", 2, corrector="implicit"), Record("data", 2)))
    assert own.calls == 5
    assert compile_plan(own, PATH, 5).nfe == 5
    with pytest.raises(AnydiffError, match="needs at least 5"):
        compile_plan(own, PATH, 4)


def test_a_step_may_start_from_an_older_node():
    """Order 2 from the node before, with the newest as its inner stage: DPM-Solver-2 on the data."""
    own = USF((Record(), Record("data", 2, base=1, preset="midpoint")))
    s, r, t = (PATH.time(v) for v in (-1.0, -0.5, 0.0))
    x = starts(PATH)
    end = execute(build_plan(own, PATH, [s, r, t], "stop"), mixture(PATH), x)
    first = mixture(PATH)(x, s)
    middle = PATH.sigma(r) / PATH.sigma(s) * x + PATH.alpha(r) * -math.expm1(-0.5) * first
    change = (mixture(PATH)(middle, r) - first) / 0.5
    expected = PATH.sigma(t) / PATH.sigma(s) * x + PATH.alpha(t) * -math.expm1(-1.0) * (first + change / 2)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Record("score"), "unknown kind 'score'"),
        (lambda: Record("data", 6), "order is 6"),
        (lambda: Record("data", 3, (1, 1)), "each once"),
        (lambda: Record("data", 3, (1,)), "needs 2 other nodes"),
        (lambda: Record("data", 2, (0,)), "singular"),
        (lambda: Record("data", 2, low=2), "low is 2"),
        (lambda: Record(relax=float("inf")), "finite"),
        (lambda: USF(()), "at least one step"),
        (lambda: USF((Record("data", 2),)), "lower its order"),
        (lambda: USF((Record(), Record()), (1.0, 0.5, 0.5)), "repeated one is singular"),
        (lambda: USF((Record(),), (1.0, 0.5, 0.1)), "3 times for 1 steps"),
        (lambda: USF((Record("statistics"),)), "none are given"),
        (lambda: build_plan(USF(), PATH, [1.0, 0.5, 0.1]), "1 records, but the grid has 2 steps"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(AnydiffError, match=words):
        make()
