"""One affine family: roles of sources, kinds of prediction as rows, bridges, residuals and heavy-tailed noise."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import chi2, f, kstest

from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle, GaussianOracle
from anydiff.denoisers.interpolant_oracle import InterpolantOracle, Mixture
from anydiff.denoisers.kinds import solved, weights
from anydiff.denoisers.student_t_oracle import StudentTOracle
from anydiff.errors import AnydiffError
from anydiff.guidance import LookAhead
from anydiff.objectives.prediction import target
from anydiff.paths import (
    EDM,
    RDDM,
    Flow,
    Interpolant,
    MeanReverting,
    OneSided,
    PFGMPlusPlus,
    VPCosine,
    VPLinear,
)
from anydiff.samplers import AdaptiveDPMSolver, AdaptiveODE, sample
from anydiff.solvers import compile_plan
from anydiff.solvers.executor import execute
from anydiff.states import Conditioning, GaussianNoise, NoiseSource, StateSpec, StudentTNoise, uniform

GIVEN = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-1.0, 0.0], [0.2, 0.9]], dtype=torch.float64)
KNOWN = [(MeanReverting(), "mu"), (RDDM(t_end=0.01), "input"), (RDDM(residual="average", noise="decreased"), "input")]


def exact(path, kind):
    """E[· | x_t, u] for x_0 ~ N(u/2, 0.3 I) given u: the clean part is Gaussian, so every kind is known."""

    def function(x, t, condition):
        u = path.given(condition)[path.known[0]]
        c = path.coefficients(torch.tensor(t, dtype=torch.float64))
        alpha, sigma = float(c["x0"]), float(c["noise"])
        rest = x - float(c[path.known[0]]) * u
        gain = 0.3 / (alpha**2 * 0.3 + sigma**2) if alpha or sigma else 0.0
        off = rest - alpha * u / 2
        sources = {"x0": u / 2 + alpha * gain * off, path.known[0]: u, "noise": sigma / 0.3 * gain * off}
        times = torch.full((len(x),), t, dtype=torch.float64)
        return target(path, times, kind, sources)

    return FunctionDenoiser(function, path, kind)


@pytest.mark.parametrize(("path", "name"), KNOWN)
@pytest.mark.parametrize("solver", ["dpm-solver++-2m", "ddpm", "rddm"])
def test_every_kind_of_prediction_gives_the_same_samples(path, name, solver):
    condition = Conditioning(sources={name: GIVEN})
    drawn = {}
    for kind in path.kinds:
        if kind in ("noise", "score", "edm", "flow", "velocity") and path.alpha(path.t_start) == 0:
            path = type(path)(**{**vars(path), "t_start": 0.999})
    for kind in path.kinds:
        if path.sigma(path.t_end) == 0 and kind in ("score", "flow"):
            continue
        drawn[kind] = sample(
            exact(path, kind), (2,), 4, solver=solver, nfe=7, condition=condition, seed=3, dtype=torch.float64
        )
    reference = drawn.pop("data")
    for kind, value in drawn.items():
        assert float((value - reference).abs().max()) < 1e-10, kind


@pytest.mark.parametrize(("path", "name"), KNOWN)
def test_the_mean_of_the_prior_flows_to_the_mean_of_the_data(path, name):
    """x_0 ~ N(u/2, 0.3): the mean of x_T is a state whose flow is known, at every number of steps."""
    c = {key: float(value) for key, value in path.coefficients(torch.tensor(path.t_start).double()).items()}
    start = (c["x0"] / 2 + c[name]) * GIVEN
    plan = compile_plan("ddim", path, 5)
    end = execute(plan, exact(path, "data"), start, condition=Conditioning(sources={name: GIVEN}))
    torch.testing.assert_close(end, GIVEN / 2, rtol=0, atol=1e-12)


def test_a_known_source_must_be_there_and_of_the_shape_of_the_data():
    path = RDDM()
    clean = torch.zeros(4, 2)
    with pytest.raises(AnydiffError, match="leads to a known 'input', which is not given"):
        path.noised(torch.full((4,), 0.5), clean, clean)
    with pytest.raises(AnydiffError, match=r"source 'input' has shape \(3, 2\), but the data have \(4, 2\)"):
        path.noised(torch.full((4,), 0.5), clean, clean, Conditioning(sources={"input": clean[:3]}))
    with pytest.raises(AnydiffError, match="leads to a start 'start', which is not given"):
        Interpolant().noised(torch.full((4,), 0.5), clean, clean)


# Residual denoising


def vp_like(**options):
    return RDDM(residual="vp-linear", noise="vp-linear", sum_scale=1.0, **options)


def test_rddm_with_no_input_is_ddim():
    times = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    path, vp = vp_like(t_end=1e-3), VPLinear()
    torch.testing.assert_close(path.alpha(times), vp.alpha(times), rtol=0, atol=1e-14)
    torch.testing.assert_close(path.sigma(times), vp.sigma(times), rtol=0, atol=1e-14)
    grid = [1.0, 0.7, 0.45, 0.2, 0.05]
    start = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    oracle = GaussianOracle(vp, torch.tensor([0.4, -0.3]), 0.5)
    zero = Conditioning(sources={"input": torch.zeros_like(start)})
    plans = [compile_plan(s, p, 4, grid, "stop") for s, p in (("rddm", path), ("ddim", vp))]
    shown = FunctionDenoiser(lambda x, t: oracle.predict(x, t, "noise"), path, "noise")
    ends = [execute(plans[0], shown, start, condition=zero), execute(plans[1], oracle, start)]
    assert float((ends[0] - ends[1]).abs().max()) < 1e-12


def test_the_ancestral_variance_is_that_of_ddpm_times_the_signal_that_is_left():
    path, vp = vp_like(), VPLinear()
    for t, s in ((0.7, 0.45), (0.9, 0.2)):
        rows = {}
        for solver, over in (("rddm", path), ("ddpm", vp)):
            options = {"eta": 1.0} if solver == "rddm" else {}
            plan = compile_plan(solver, over, 1, [t, s], "stop", **options)
            rows[solver] = dict(plan.instructions[-1].terms)["z1"]
        assert math.isclose(rows["rddm"] ** 2 / rows["ddpm"] ** 2, vp.alpha(s) ** 2, rel_tol=1e-12)


@pytest.mark.parametrize("route", ["together", "residual-first", "noise-first"])
def test_exact_predictions_lead_home_on_every_route(route):
    """Path independence: with the true residual and noise each route ends at x_0."""
    path = RDDM(sum_scale=1.0, route=route)
    clean = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    class Told(FunctionDenoiser):
        native_kinds = ("residual", "noise")

        def natives(self, x, t, condition):
            return {"residual": GIVEN - clean, "noise": noise}

    start = GIVEN + noise
    plan = compile_plan("rddm", path, 6)
    end = execute(plan, Told(lambda x, t: x, path), start, condition=Conditioning(sources={"input": GIVEN}))
    torch.testing.assert_close(end, clean, rtol=0, atol=1e-14)


def test_the_route_noise_first_has_no_clock():
    with pytest.raises(AnydiffError, match=r"'noise-first' has no log-SNR.*use the solver 'rddm'"):
        compile_plan("dpm-solver++-2m", RDDM(route="noise-first"), 5)


def test_what_divides_by_the_noise_where_there_is_none_is_one_sentence():
    for solver in ("heun", "euler-maruyama", "predictor-corrector", "velocity-adams"):
        with pytest.raises(AnydiffError, match=r"divides by the signal or the noise of RDDM.*'rddm' removes"):
            compile_plan(solver, RDDM(route="noise-first"), 6)


def test_predictions_that_a_moving_shift_changes_are_refused_in_one_call():
    class Moving(MeanReverting):
        centre: ClassVar = {}

    with pytest.raises(AnydiffError, match="asks for residual beside other predictions"):
        compile_plan("rddm", Moving(), 5)


@pytest.mark.parametrize("kind", ["data", "noise", "residual"])
def test_guidance_by_a_gradient_works_around_a_known_source(kind):
    """The same samples whatever is predicted, so the known source is taken into account in every conversion."""
    path = MeanReverting()
    guidance = LookAhead(direction=torch.tensor([1.0, -0.5]), target=0.3, noise_std=0.5)
    condition = Conditioning(sources={"mu": GIVEN})
    asked = {"solver": "ddim", "nfe": 5, "condition": condition, "guidance": guidance, "dtype": torch.float64}
    plain = sample(exact(path, "data"), (2,), 4, **asked)
    assert float((sample(exact(path, kind), (2,), 4, **asked) - plain).abs().max()) < 1e-10


@pytest.mark.parametrize("dof", [1.0, 64.0])
def test_adaptive_solvers_end_as_plans_do(dof):
    """Both end rules against a plan of many steps from the same noise, on a law without variance and one with."""
    path = PFGMPlusPlus(t_end=0.05, dof=dof)
    oracle = StudentTOracle(path, torch.tensor([[-0.6], [0.7]]).double(), 0.4)
    start = path.prior(student(6, 1, dof))
    fine = execute(compile_plan("heun", path, 400, "karras"), oracle, start)
    for solver in (AdaptiveODE(rtol=1e-7, atol=1e-7), AdaptiveDPMSolver(order=3, rtol=1e-5, atol=1e-5)):
        end = sample(oracle, (1,), 6, solver=solver, start=start, dtype=torch.float64)
        assert float((end - fine).abs().max()) < 3e-3, solver


def test_without_a_known_source_the_input_is_zero_and_rddm_is_ddim():
    vp = VPLinear()
    oracle = GaussianMixtureOracle(vp, torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), 0.3)
    asked = {"nfe": 6, "grid": "time", "dtype": torch.float64}
    ends = [sample(oracle, (2,), 4, solver=solver, **asked) for solver in ("rddm", "ddim")]
    assert float((ends[0] - ends[1]).abs().max()) < 1e-12


# Bridges

START = Mixture.of([[-3.0], [3.0]], [0.25, 0.25], [0.5, 0.5])
DATA = Mixture.of([[-6.0], [0.0], [6.0]], [0.5, 0.33, 0.5], [0.3, 0.4, 0.3])
BRIDGES = [
    Interpolant(family, gamma, 0.5)
    for family, gamma in itertools.product(
        ("linear", "trigonometric", "encoder-decoder"), ("brownian", "quadratic", "sine", "sigmoid")
    )
]


def joint(path, t, x):
    """E[x_start], E[x_data] and E[z] given x_t = x by quadrature over the two ends on a fine grid (d = 1)."""
    first = torch.linspace(-7, 7, 351, dtype=torch.float64)
    grid = torch.linspace(-12, 12, 601, dtype=torch.float64)

    def density(law, grid):
        off = grid[:, None] - law.means[:, 0]
        return (law.weights * torch.exp(-(off**2) / (2 * law.variances)) / law.variances.sqrt()).sum(1)

    c = {name: float(value) for name, value in path.coefficients(torch.tensor(t, dtype=torch.float64)).items()}
    weight = density(START, first)[:, None] * density(DATA, grid)[None]
    z = (x - c["start"] * first[:, None] - c["x0"] * grid[None]) / c["noise"]
    weight = weight * torch.exp(-(z**2) / 2)
    total = weight.sum()
    parts = {"start": first[:, None], "x0": grid[None], "noise": z}
    return {name: float((weight * value).sum() / total) for name, value in parts.items()}


@pytest.mark.parametrize("path", BRIDGES, ids=lambda path: f"{path.family}-{path.gamma}")
def test_the_fields_of_mixtures_are_those_of_quadrature(path):
    oracle = InterpolantOracle(path, START, DATA)
    for t, x in ((0.8, -1.3), (0.42, 0.4), (0.3, 2.2)):
        means = joint(path, t, x)
        time, point = torch.tensor([t], dtype=torch.float64), torch.tensor([[x]], dtype=torch.float64)
        b, s = (float(value) for value in oracle.fields(point, time))
        slope = {name: float(value) for name, value in path.derivatives(time).items()}
        gamma = float(path.coefficients(time)["noise"])
        assert math.isclose(b, -sum(slope[name] * means[name] for name in slope), rel_tol=1e-10, abs_tol=1e-10)
        assert math.isclose(s, -means["noise"] / gamma, rel_tol=1e-10, abs_tol=1e-10)
        for kind, name in (("data", "x0"), ("start", "start")):
            if path.coefficients(time)[name] > 0.01:
                assert math.isclose(float(oracle.predict(point, t, kind)), means[name], rel_tol=1e-9, abs_tol=1e-9)


def law(path, t, x):
    """log of the density of x_t ``[n]`` on the line."""
    c = path.coefficients(torch.tensor(t, dtype=torch.float64))
    mean = c["start"] * START.means[:, None, 0] + c["x0"] * DATA.means[None, :, 0]
    variance = c["start"] ** 2 * START.variances[:, None] + c["x0"] ** 2 * DATA.variances[None] + c["noise"] ** 2
    weight = START.weights[:, None] * DATA.weights[None]
    return (
        weight * torch.exp(-((x[:, None, None] - mean) ** 2) / (2 * variance)) / (2 * math.pi * variance).sqrt()
    ).sum((1, 2))


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_transport_and_fokker_planck_equations_hold(epsilon):
    """dρ/du + d/dx[(b + ε s) ρ] = ε d²ρ/dx², by differences."""
    path, t, h = Interpolant(), 0.4, 1e-4
    oracle = InterpolantOracle(path, START, DATA)
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)

    def flux(at):
        b, s = oracle.fields(at[:, None], torch.full((len(at),), t, dtype=torch.float64))
        return (b + epsilon * s)[:, 0] * law(path, t, at)

    change = -(law(path, t + h, x) - law(path, t - h, x)) / (2 * h)
    spread = (law(path, t, x + h) - 2 * law(path, t, x) + law(path, t, x - h)) / h**2
    rest = change + (flux(x + h) - flux(x - h)) / (2 * h) - epsilon * spread
    assert float(rest.abs().max()) < 1e-6


def test_one_sided_interpolants_are_flow_matching_and_a_variance_preserving_path():
    t = torch.linspace(0.02, 0.98, 20, dtype=torch.float64)
    for mine, known in ((OneSided(), Flow()), (OneSided("trigonometric"), VPCosine())):
        for name in ("alpha", "sigma", "d_alpha", "d_sigma") if isinstance(known, Flow) else ():
            torch.testing.assert_close(getattr(mine, name)(t), getattr(known, name)(t), rtol=0, atol=1e-12)
    vp = OneSided("trigonometric")
    torch.testing.assert_close(vp.alpha(t) ** 2 + vp.sigma(t) ** 2, torch.ones_like(t), rtol=0, atol=1e-14)
    oracle = GaussianMixtureOracle(vp, torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), 0.3)
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # The probability-flow ODE dx/dt = f x - g²/2 s is the velocity of the interpolant.
    ode = vp.drift(0.4) * x - vp.squared_diffusion(0.4) / 2 * oracle.predict(x, 0.4, "score")
    assert float((ode - oracle.predict(x, 0.4, "flow")).abs().max()) < 1e-12


def test_no_epsilon_is_the_ode_to_the_bit_and_half_of_g_squared_is_the_reverse_sde():
    path = Interpolant()
    ode = compile_plan("interpolant", path, 8)
    assert compile_plan("interpolant", path, 8, epsilon=lambda u: 0.0).instructions == ode.instructions
    vp, times = VPLinear(), [0.8, 0.6]
    mine = compile_plan("interpolant", vp, 2, [*times, 0.5], "stop", epsilon="reverse-sde")
    theirs = compile_plan("euler-maruyama", vp, 2, [*times, 0.5], "stop")
    oracle = GaussianMixtureOracle(vp, torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), 0.3)
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = []
    for plan in (mine, theirs):
        first = next(i for i in plan.instructions if type(i).__name__ == "Combine")
        made = {"x0": x, "z1": torch.ones_like(x)}
        evaluated = plan.instructions[0]
        for register, kind in zip(evaluated.outs, evaluated.kinds, strict=True):
            made[register] = oracle.predict(x, evaluated.t, kind)
        rows.append(sum(coefficient * made[register] for register, coefficient in first.terms))
    assert float((rows[0] - rows[1]).abs().max()) < 1e-12


def test_there_and_back_again_is_the_start():
    path = Interpolant()
    oracle = InterpolantOracle(path, START, DATA)
    start = START.sample(6, torch.Generator().manual_seed(3))
    forth = execute(compile_plan("interpolant", path, 800, method="rk4"), oracle, start)
    back = path.reversed()
    plan = compile_plan("interpolant", back, 800, method="rk4")
    turned = FunctionDenoiser(lambda x, t: -oracle.predict(x, 1 - t, "flow"), back, "flow")
    assert float((execute(plan, turned, forth) - start).abs().max()) < 1e-6


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_a_gaussian_bridge_is_affine_to_the_order_of_the_solver(method, order):
    path = Interpolant(gamma="quadratic")
    one = Mixture.of([[1.0, -2.0]], [0.5], [1.0])
    two = Mixture.of([[-1.0, 0.5]], [2.0], [1.0])
    oracle = InterpolantOracle(path, one, two)
    start = one.sample(50, torch.Generator().manual_seed(0))
    # The map of the ODE between Gaussians of one mode: x -> n + sqrt(E/C) (x - m).
    exact_end = two.means + 2.0 * (start - one.means)
    errors = []
    for steps in (32, 64):
        plan = compile_plan("interpolant", path, steps * order, method=method)
        errors.append(float((execute(plan, oracle, start) - exact_end).abs().max()))
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.25


def test_epsilon_is_checked():
    for options, what in (
        ({"epsilon": -1.0}, "epsilon is -1.0"),
        ({"epsilon": 1.0, "method": "heun"}, "method is 'heun'"),
        ({"epsilon": lambda u: -1.0}, r"epsilon\(0\) is -1.0|epsilon\(.*\) is -1.0"),
    ):
        with pytest.raises(AnydiffError, match=what):
            compile_plan("interpolant", Interpolant(t_start=0.99), 4, **options)


def test_what_needs_a_log_snr_is_refused_on_a_bridge():
    for solver, grid in (("dpm-solver++-2m", None), ("interpolant", "karras")):
        with pytest.raises(AnydiffError, match=r"needs a path of data and noise with a log-SNR.*solver 'interpolant'"):
            compile_plan(solver, Interpolant(), 5, grid)
    with pytest.raises(AnydiffError, match=r"has no prior.*give the states to begin with as start"):
        sample(InterpolantOracle(Interpolant(), START, DATA), (1,), 4, solver="interpolant", nfe=3)


def test_kinds_that_do_not_determine_another_are_refused():
    with pytest.raises(AnydiffError, match=r"flow do not determine the data prediction at t=0\.5.*predict it too"):
        solved(Interpolant(), 0.5, ("flow",), "data")
    with pytest.raises(AnydiffError, match="'velocity', which has no meaning on Interpolant"):
        weights(Interpolant(), torch.tensor(0.5), "velocity")


# Heavy-tailed noise


def student(count, size, dof, seed=0):
    spec = StateSpec.single((size,))
    return NoiseSource(spec, seed, StudentTNoise(dof)).draw(range(count), 0, torch.float64)


def test_the_length_of_student_t_noise_follows_an_f_law():
    for size, dof in ((8, 4.0), (3, 1.0), (16, 64.0)):
        squared = student(20_000, size, dof).square().sum(1) / size
        assert kstest(squared.numpy(), f(size, dof).cdf).pvalue > 0.01
    assert [StudentTNoise(dof).variance for dof in (4.0, 2.0)] == [2.0, math.inf]


def test_the_log_density_is_that_of_one_dimension_and_tends_to_the_gaussian():
    from scipy.stats import t as student_t

    x = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        StudentTNoise(3.0).log_density(x), torch.from_numpy(student_t(3).logpdf(x[:, 0].numpy())), rtol=1e-12, atol=0
    )
    gap = (StudentTNoise(1e7).log_density(x) - GaussianNoise().log_density(x)).abs().max()
    assert float(gap) < 1e-5


def test_one_length_is_shared_by_all_entries_and_leaves():
    from anydiff.states import Leaf

    spec = StateSpec([Leaf("a", (3,)), Leaf("b", (2, 2))])
    law, normal = StudentTNoise(2.0), GaussianNoise()
    drawn = {leaf.name: law.draw(leaf, 1, range(50), 0) / normal.draw(leaf, 1, range(50), 0) for leaf in spec.leaves}
    ratios = torch.from_numpy(drawn["a"])
    assert float((ratios - ratios[:, :1]).abs().max()) < 1e-12
    assert float((torch.from_numpy(drawn["b"]).reshape(50, 4) - ratios[:, :1]).abs().max()) < 1e-12
    assert float(ratios[:, 0].std()) > 0.3


def test_the_exact_denoiser_tends_to_the_gaussian_one_like_1_over_dof():
    means = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1.4
    limit = GaussianMixtureOracle(EDM(), means, 0.2)(x, 1.0)
    errors = [float((StudentTOracle(PFGMPlusPlus(dof=d), means, 0.2)(x, 1.0) - limit).abs().max()) for d in (512, 4096)]
    assert abs(math.log(errors[0] / errors[1]) / math.log(8) - 1) < 0.1


def test_a_single_point_is_reached_on_a_straight_ray():
    path, point = PFGMPlusPlus(dof=3.0), torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    oracle = StudentTOracle(path, point, 0.0)
    start = path.prior(student(10, 2, 3.0))
    middle = execute(compile_plan("euler", path, 3, [80.0, 20.0, 5.0, 1.0], "stop"), oracle, start)
    torch.testing.assert_close(middle, point + (start - point) / 80, rtol=0, atol=1e-12)


def test_scaling_everything_changes_no_weight():
    means = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    path = PFGMPlusPlus(dof=5.0)
    one = StudentTOracle(path, means, 0.0)(x, 0.7)
    ten = StudentTOracle(path, 10 * means, 0.0)(10 * x, 7.0)
    torch.testing.assert_close(ten, 10 * one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dof", [1.0, 1.5, 4.0, 64.0])
def test_a_plan_ends_right_to_leading_order_for_every_law(dof):
    """The clean end from σ = 0.004 against the flow that is followed to σ = 4e-6 (D from 1-D quadrature)."""
    path = PFGMPlusPlus(t_start=0.004, t_end=0.004 / 1000, dof=dof)
    oracle = StudentTOracle(path, torch.tensor([[-0.6], [0.7]]).double(), 0.4)
    start = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None]
    fine = execute(compile_plan("heun", path, 800, "karras"), oracle, start)
    data = oracle(start, 0.004)
    share = 1 / path.noise_law.end_exponent
    missed = (start + share * (data - start) - fine).abs().max()
    way = (start - fine).abs().max()
    assert float(missed / way) < 0.05
    wrong = 1.0 if dof >= 2 else 0.5
    assert float((start + wrong * (data - start) - fine).abs().max() / way) > 0.2


def test_what_needs_a_score_is_refused_on_heavy_tailed_noise():
    path = PFGMPlusPlus(dof=8.0)
    for solver in ("ddpm", "euler-maruyama", "sde-dpm-solver++-2m"):
        with pytest.raises(AnydiffError, match=r"this solver adds noise on the way.*student-t"):
            compile_plan(solver, path, 6)
    with pytest.raises(AnydiffError, match="'score', which has no meaning on PFGMPlusPlus"):
        StudentTOracle(path, torch.zeros(1, 2), 0.5).predict(torch.zeros(3, 2), 1.0, "score")
    with pytest.raises(AnydiffError, match="dof is -1"):
        PFGMPlusPlus(dof=-1.0)
    assert type(PFGMPlusPlus(dof=math.inf).noise_law) is GaussianNoise


def test_sampling_begins_with_the_law_of_the_path():
    path, seen = PFGMPlusPlus(dof=2.0), []
    oracle = FunctionDenoiser(lambda x, t: 0 * x, path)
    length = np.sqrt(2.0 / chi2(2).ppf(uniform(4, range(5), 0, "student-t/length").numpy()))
    drawn = NoiseSource(StateSpec.single((3,)), 4).draw(range(5), 0, torch.float64) * torch.from_numpy(length)[:, None]
    sample(
        oracle, (3,), 5, solver="euler", nfe=1, seed=4, dtype=torch.float64,
        callbacks=[lambda step: seen.append(step.state.clone())],
    )  # fmt: skip
    torch.testing.assert_close(seen[-1], 80 * drawn, rtol=1e-12, atol=0)
