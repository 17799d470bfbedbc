"""DPM-Solver-v3: the compiler against exact flows and other solvers, the statistics against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from exact import mixture, starts

from anydiff.calibration import Artefact, Setting, calibrate, plan_of_entry
from anydiff.calibration.dpm_solver_v3 import DPMSolverV3Statistics
from anydiff.calibration.statistics import Sampled, entry_groups, estimate, statistic_times
from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle, GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.paths import EDM, VE, Flow, ProductPath, SubVP, VPCosine, VPLinear
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.adams import ExponentialAdams
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.dpm_solver_v3 import DPMSolverV3, Statistics
from anydiff.solvers.plan import Combine, Plan
from anydiff.states import Leaf, StateSpec

PATH = VPLinear()
MEAN = torch.tensor([0.8, -0.3, 0.1], dtype=torch.float64)
VARIANCE = torch.tensor([0.49, 0.01, 0.09], dtype=torch.float64)


def constant_statistics(path, points, linear, scale=0.0, shift=0.0):
    """The same l, s and b at all points."""
    times = np.array(statistic_times(path, points))
    log_snr = np.array([path.log_snr(float(t)) for t in times])
    made = (np.full((points, 1), value) for value in (linear, scale, shift))
    return Statistics(times, log_snr, *made, groups=np.zeros((1,), np.int64))


def exact_statistics(path, points):
    """Of the Gaussian N(MEAN, diag VARIANCE): l = σ²/(α²c² + σ²), s = 0, b = -l' m."""
    times = np.array(statistic_times(path, points))
    log_snr = np.array([path.log_snr(float(t)) for t in times])
    snr = np.exp(2 * log_snr)[:, None] * VARIANCE.numpy()
    linear = 1 / (1 + snr)
    shift = 2 * snr / (1 + snr) ** 2 * MEAN.numpy()
    return Statistics(times, log_snr, linear, np.zeros_like(linear), shift, np.arange(3))


def one_step(path, statistics):
    """The largest error of one first-order step from pure noise to the last node, over Gaussian starts."""
    x = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * path.prior_std
    plan = build_plan(DPMSolverV3(statistics, degree=1), path, [path.t_start, path.t_end], "stop")
    first, last = (path.alpha(t) ** 2 * VARIANCE + path.sigma(t) ** 2 for t in (path.t_start, path.t_end))
    exact = path.alpha(path.t_end) * MEAN + (last / first).sqrt() * (x - path.alpha(path.t_start) * MEAN)
    return float((execute(plan, GaussianOracle(path, MEAN, VARIANCE), x) - exact).abs().max())


def test_one_step_is_exact_on_a_gaussian_up_to_quadrature():
    errors = [one_step(PATH, exact_statistics(PATH, points + 1)) for points in (30, 120, 480)]
    assert errors[0] < 5e-3
    assert errors[2] < 2e-5
    for coarse, fine in itertools.pairwise(errors):
        assert 12 < coarse / fine < 20  # order 2 in the points


@pytest.mark.parametrize("path", [VE(), EDM(), VPCosine(), SubVP()], ids=repr)
def test_and_so_it_is_on_every_path(path):
    assert one_step(path, exact_statistics(path, 481)) < 1e-3 * path.prior_std


def test_the_estimate_is_the_closed_form():
    oracle = GaussianOracle(PATH, MEAN, VARIANCE)
    exact = exact_statistics(PATH, 121)
    generator = torch.Generator().manual_seed(1)
    noise, other = (torch.randn(512, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    sampled = Sampled(MEAN + VARIANCE.sqrt() * other, noise, [other.sign()])
    made = estimate(oracle, StateSpec.single((3,)), sampled, exact.times.tolist())
    assert np.abs(made.linear - exact.linear).max() < 1e-9
    assert np.abs(made.scale).max() == 0  # f is a constant: nothing to regress on
    assert np.abs(made.shift - exact.shift)[1:-1].max() < 2e-3  # l' by differences of the points
    assert one_step(PATH, made) < 1e-3


def along(plan, oracle, start):
    return execute(plan, oracle, start)


@pytest.mark.parametrize(
    ("linear", "scale", "other"),
    [(1.0, 0.0, DPMSolverPP(3, form="taylor")), (0.0, -1.0, ExponentialAdams(3, "noise"))],
    ids=["data", "noise"],
)
def test_data_and_noise_are_special_cases(linear, scale, other):
    oracle, start = mixture(PATH), starts(PATH)
    errors = []
    for points in (301, 1201):
        solver = DPMSolverV3(constant_statistics(PATH, points, linear, scale), corrector=False)
        plan = compile_plan(solver, PATH, 10, "log-snr", "stop")
        reference = build_plan(other, PATH, plan.nodes, "stop")
        errors.append(float((along(plan, oracle, start) - along(reference, oracle, start)).abs().max()))
    assert errors[1] < 5e-4
    assert 12 < errors[0] / errors[1] < 20


@pytest.mark.parametrize(("pseudo", "corrector", "low", "high"), [(False, False, 2.6, 3.6), (True, False, 1.7, 2.4)])
def test_orders(pseudo, corrector, low, high):
    """On a mixture, nodes on the points; the last λ is moderate, where the asymptotics show."""
    oracle, start = mixture(PATH), starts(PATH)
    times = np.array([PATH.time(v) for v in np.linspace(-4.0, 2.0, 4801)])
    log_snr = np.linspace(-4.0, 2.0, 4801)
    linear = 1 / (1 + np.exp(2 * log_snr) * 0.5)[:, None]
    statistics = Statistics(times, log_snr, linear, linear - 1, 0.5 - linear / 2, np.zeros(1, np.int64))
    solver = DPMSolverV3(statistics, pseudo=pseudo, corrector=corrector)
    fine = execute(build_plan(solver, PATH, times[::4].tolist(), "stop"), oracle, start)  # the same quadrature
    errors = []
    for steps in (60, 120):
        plan = build_plan(solver, PATH, times[:: 4800 // steps].tolist(), "stop")
        errors.append(float((execute(plan, oracle, start) - fine).square().mean().sqrt()))
    assert low < math.log2(errors[0] / errors[1]) < high


def states_and_predictions(plan, oracle, start):
    seen = []
    execute(plan, oracle, start, callbacks=[lambda step: seen.append((step.t, step.state.clone()))])
    return seen


def test_the_corrector_keeps_what_is_integrated():
    """The row of f is made of the state that the network saw; no other row writes it, and rows stay short."""
    oracle, start = mixture(PATH), starts(PATH)
    statistics = constant_statistics(PATH, 121, 0.4, -0.2, 0.1)
    with_, without = (compile_plan(DPMSolverV3(statistics, corrector=c), PATH, 8) for c in (True, False))
    assert with_.nfe == without.nfe == 8
    assert max(len(row.terms) for row in with_.instructions if isinstance(row, Combine)) <= 7
    assert not torch.allclose(execute(with_, oracle, start), execute(without, oracle, start), atol=1e-6)


def by_hand(solver, path, nodes, oracle, x):
    """The sheet's procedure with cumulative integrals from index 0, in plain arithmetic on one group."""
    st = solver.statistics
    lam, l, s, b = st.log_snr, st.linear[:, 0], st.scale[:, 0], st.shift[:, 0]  # noqa: E741 (the paper's letters)
    trapezoid = lambda v: np.concatenate([[0], np.cumsum((v[1:] + v[:-1]) / 2 * np.diff(lam))])  # noqa: E731
    L, S = trapezoid(l), trapezoid(s)
    I, B = trapezoid(np.exp(L + S)), trapezoid(np.exp(-S) * b)  # noqa: E741
    C = trapezoid(np.exp(L + S) * B)
    at = [int(np.abs(st.times - t).argmin()) for t in nodes]
    alpha, sigma = (lambda i: path.alpha(float(st.times[i]))), (lambda i: path.sigma(float(st.times[i])))

    def step(i, t, x, known):
        g = [np.exp(S[i] - S[j]) * f - np.exp(S[i]) * (B[j] - B[i]) for j, f in known]
        n = len(known) - 1
        form = alpha(t) / alpha(i) * np.exp(L[i] - L[t]) * x
        form = form - alpha(t) * np.exp(-L[t] - S[i]) * (I[t] - I[i]) * g[0]
        form = form - alpha(t) * np.exp(-L[t]) * (C[t] - C[i] - B[i] * (I[t] - I[i]))
        if n:
            d = np.array([lam[j] - lam[i] for j, _ in known[1:]])
            solved = np.linalg.inv(np.array([[e**k / math.factorial(k) for k in range(1, n + 1)] for e in d]))
            for k in range(1, n + 1):
                inner = np.exp((L + S)[i : t + 1] - (L + S)[i]) * (lam[i : t + 1] - lam[i]) ** k / math.factorial(k)
                weight = float(((inner[1:] + inner[:-1]) / 2 * np.diff(lam[i : t + 1])).sum())
                derivative = sum(float(solved[k - 1, m]) * (g[m + 1] - g[0]) for m in range(n))
                form = form - alpha(t) * np.exp(L[i] - L[t]) * weight * derivative
        return form

    known, last = [], None
    for index, i in enumerate(at[:-1]):
        eps = (x - alpha(i) * oracle(x, float(st.times[i]))) / sigma(i)
        f = (sigma(i) * eps - l[i] * x) / alpha(i)
        if solver.corrector and last is not None and len(last[1]) > 1:
            order = len(last[1])
            x = step(last[2], i, last[0], [last[1][0], (i, f), *last[1][1 : order - 1]])
        known = [(i, f), *known][: solver.degree]
        last = (x, known, i)
        x = step(i, at[index + 1], x, known)
    return x


@pytest.mark.parametrize("corrector", [True, False])
def test_the_plan_is_the_procedure_of_the_paper(corrector):
    times = np.array(statistic_times(PATH, 121))
    log_snr = np.array([PATH.log_snr(float(t)) for t in times])
    parts = (1 / (1 + 0.3 * np.exp(2 * log_snr)), np.tanh(-log_snr / 3), 0.4 * np.cos(log_snr))
    statistics = Statistics(times, log_snr, *(part[:, None] for part in parts), groups=np.zeros(1, np.int64))
    solver = DPMSolverV3(statistics, corrector=corrector)
    plan = compile_plan(solver, PATH, 7, "log-snr", "stop")
    assert set(plan.nodes) <= set(times.tolist())
    expected = by_hand(solver, PATH, plan.nodes, mixture(PATH), starts(PATH))
    torch.testing.assert_close(execute(plan, mixture(PATH), starts(PATH)), expected, rtol=0, atol=1e-11)


def test_from_pure_noise_the_first_step_is_of_the_data():
    path = Flow()
    plan = compile_plan(DPMSolverV3(constant_statistics(path, 121, 0.5, 0.0, 0.1)), path, 5, "log-snr")
    assert plan.nodes[0] == 1.0
    assert torch.isfinite(execute(plan, mixture(path), starts(path))).all()
    fine = execute(compile_plan("unipc-3", path, 200, "log-snr"), mixture(path), starts(path))
    at = constant_statistics(path, 1001, 0.0)
    linear = 1 / (1 + 0.3 * np.exp(2 * at.log_snr))[:, None]
    own = DPMSolverV3(Statistics(at.times, at.log_snr, linear, linear - 1, 0.5 - linear / 2, at.groups))
    close = execute(compile_plan(own, path, 100, "log-snr"), mixture(path), starts(path))
    assert float((close - fine).abs().max()) < 2e-3


def test_leaves_of_a_product_have_statistics_of_their_own():
    spec = StateSpec([Leaf("a", (3,)), Leaf("b", (2, 2))])
    path = ProductPath((("a", VPLinear()), ("b", VPLinear(beta_max=12.0)))).bind(spec)
    times = np.array(statistic_times(path, 161))
    log_snr = np.array([path.log_snr(float(t)) for t in times])
    rng = np.random.default_rng(0)
    parts = [np.tile(row, (161, 1)) for row in (rng.uniform(0.2, 0.9, 7), rng.uniform(-0.5, 0, 7), rng.normal(size=7))]
    statistics = Statistics(times, log_snr, *parts, groups=np.arange(7))
    plan = compile_plan(DPMSolverV3(statistics), path, 6)
    assert Plan.from_json(plan.to_json()) == plan
    point = torch.linspace(-1, 1, 7, dtype=torch.float64)
    oracle = FunctionDenoiser(lambda x, t: point * 0.5 + 0.2 * torch.tanh(x), path)
    x = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    fine = execute(compile_plan("unipc-3", path, 300, "log-snr"), oracle, x)
    close = execute(compile_plan(DPMSolverV3(statistics), path, 60, "log-snr"), oracle, x)
    assert float((close - fine).abs().max()) < 5e-3


# Groups ---------------------------------------------------------------------------------------------------------------
def test_entries_that_a_symmetry_makes_alike_share_a_group():
    spec = StateSpec([Leaf("nodes", (4, 2), mask_axes=(0,)),
                      Leaf("edges", (4, 4), symmetric=True, zero_diagonal=True, mask_axes=(0, 1))])  # fmt: skip
    groups = entry_groups(spec)
    nodes, edges = groups[:8].reshape(4, 2), groups[8:].reshape(4, 4)
    assert (nodes == nodes[0]).all()
    assert nodes[0, 0] != nodes[0, 1]
    assert len(np.unique(edges)) == 2
    assert (np.diag(edges) == edges[0, 0]).all()
    assert edges[0, 1] != edges[0, 0]
    order = [2, 0, 3, 1]
    assert (edges[order][:, order] == edges).all()


def test_channels_of_large_states_share():
    assert entry_groups(StateSpec.single((2, 400, 400))).shape == (2, 1, 1)
    assert entry_groups(StateSpec.single((2, 3))).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert entry_groups(StateSpec.single((2, 3)), "channel").tolist() == [[0], [1]]


def test_absent_nodes_have_no_part():
    """Garbage in absent entries changes nothing; a node that is never there counts as predicted data."""
    from anydiff.states import Conditioning

    spec = StateSpec([Leaf("nodes", (3,), mask_axes=(0,))])
    mask = torch.tensor([[True, True, False], [True, False, False]] * 8)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(16, 3, dtype=torch.float64, generator=generator) * mask
    noise = torch.randn(16, 3, dtype=torch.float64, generator=generator)
    made = []
    for junk in (0.0, 50.0):

        def data(x, t, junk=junk):
            return 0.5 * torch.tanh(x) + junk * ~mask[: len(x)]

        sampled = Sampled(clean, noise, [noise.sign()], Conditioning(mask=mask), batch=16)
        made.append(estimate(FunctionDenoiser(data, PATH), spec, sampled, statistic_times(PATH, 9)))
    assert np.array_equal(made[0].linear, made[1].linear)
    assert np.array_equal(made[0].scale, made[1].scale)


# The method -----------------------------------------------------------------------------------------------------------
def target() -> GaussianMixtureOracle:
    rng = np.random.default_rng(5)
    return GaussianMixtureOracle(PATH, torch.from_numpy(0.5 * rng.standard_normal((10, 16))), 0.3,
                                 torch.from_numpy(rng.dirichlet(np.full(10, 3.0))))  # fmt: skip


METHOD = DPMSolverV3Statistics(points=61)


def test_l_falls_from_one_to_zero_and_fresh_noises_decide(tmp_path):
    setting = Setting(nfe=(5, 8), count=64, fresh=64, seed=3)
    file = tmp_path / "v3.safetensors"
    artefact = calibrate(target(), (16,), METHOD, setting, {"name": "t16"}, out=file)
    again = Artefact.load(file)
    entry = again.entry(5, "")
    assert not entry.dropped
    assert entry.ratio[2] < 0.9
    linear = entry.values["linear"]
    assert linear.dtype == np.float32
    assert linear[0].min() > 0.99
    assert linear[-1].max() < 0.05
    plans = [plan_of_entry(each, METHOD, PATH, 5, []) for each in (artefact, again)]
    assert plans[0] == plans[1]
    assert plans[0].nfe == 5
    for one, other in zip(artefact.entries, again.entries, strict=True):
        assert {k: v.tobytes() for k, v in one.values.items()} == {k: v.tobytes() for k, v in other.values.items()}
    assert file.stat().st_size < 3 * 61 * 16 * 4 + 12_000  # both entries share one copy
    with pytest.raises(AnydiffError, match="another schedule"):
        compile_plan(METHOD.solver(entry.values), VPCosine(), 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"linear": np.full((9, 1), np.nan)}, r"linear of the statistics is not finite at t=1 in group 0"),
        ({"scale": np.zeros((8, 1))}, r"scale of the statistics has shape \(8, 1\)"),
        ({"times": np.linspace(0.1, 1, 9)}, "strictly decreasing"),
    ],
)
def test_bad_statistics(change, words):
    good = vars(constant_statistics(PATH, 9, 0.5))
    with pytest.raises(AnydiffError, match=words):
        Statistics(**{**good, **change})


def test_bad_input():
    few = DPMSolverV3(constant_statistics(PATH, 5, 0.5))
    with pytest.raises(AnydiffError, match="5 points, too few for 10 steps"):
        compile_plan(few, PATH, 10)
    bad = FunctionDenoiser(lambda x, t: x / (0.0 if t < 0.5 else 1.0), PATH)
    ones = torch.ones(4, 2, dtype=torch.float64)
    with pytest.raises(AnydiffError, match=r"statistics are not finite at t=0\.\d+, first in entry 0"):
        estimate(bad, StateSpec.single((2,)), Sampled(ones, ones, [ones]), statistic_times(PATH, 9))
    with pytest.raises(AnydiffError, match="unknown pool 'all'"):
        DPMSolverV3Statistics(pool="all")
    with pytest.raises(AnydiffError, match="unknown solver 'unipc-9'"):
        DPMSolverV3Statistics(base="unipc-9").solver({})


def test_a_way_that_overflows_is_no_winner_and_no_end_of_the_search():
    """With statistics at 13 points some variants overflow on so sharp a mixture; the search goes on without them."""
    setting = Setting(nfe=(4,), count=8, fresh=16)
    entry = calibrate(mixture(PATH), (2,), DPMSolverV3Statistics(points=13), setting, {"name": "w2"}).entries[0]
    assert math.isfinite(entry.search[0])
    assert entry.search[0] <= entry.search[1]
