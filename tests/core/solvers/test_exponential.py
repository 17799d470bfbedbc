"""The toolbox and the multistep families, on coefficients: no network anywhere."""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from tables import coefficients, run_scalar, same_coefficients

from anydiff.paths import EDM, VE, Flow, SubVP, VPCosine, VPLinear, time_grid
from anydiff.solvers import build_plan
from anydiff.solvers.adams import ExponentialAdams
from anydiff.solvers.ddim import DDIM
from anydiff.solvers.dpm_solver import DPMSolver, fast_counts
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.exponential import Known, moments, phi, weights
from anydiff.solvers.pndm import ADAMS, PNDM
from anydiff.solvers.program import LinearForm, Node
from anydiff.solvers.uni_pc import UniPC

PATHS = [VPLinear(), VPCosine(), SubVP(), VE(), EDM()]
UNEVEN = (0.93, 0.71, 0.52, 0.3, 0.11)


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("z", [-50.0, -9.0, -1.0, -0.999, -0.1, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.3, 1.0, 7.0])
def test_phi_is_exact_to_rounding(k: int, z: float) -> None:
    mpmath.mp.dps = 60
    exact = mpmath.nsum(lambda j: mpmath.mpf(z) ** j / mpmath.factorial(j + k), [0, mpmath.inf])
    assert phi(k, z) == pytest.approx(float(exact), rel=2e-13)


def test_phi_at_minus_infinity_is_zero() -> None:
    assert [phi(k, -math.inf) for k in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("stretch", [1.0, 2.0])
def test_moments_are_the_integrals_they_claim_to_be(prediction: str, stretch: float) -> None:
    s, t = Node(VPLinear(), 0.6), Node(VPLinear(), 0.4)
    h = t.log_snr - s.log_snr
    if prediction == "noise":
        stretch = 1.0
    sign, factor = (stretch, t.alpha) if prediction == "data" else (-1.0, -t.sigma)
    for k, value in enumerate(moments(s, t, 4, prediction, stretch)):
        integral, _ = quad(lambda x, k=k: (x / h) ** k * math.exp(-sign * (h - x)), 0, h, epsabs=1e-15, epsrel=1e-13)
        assert value == pytest.approx(abs(sign) * factor * integral, rel=1e-12)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("variable", ["log-snr", "time", "noise-level", "snr"])
def test_weights_integrate_polynomials_in_their_variable(path, prediction: str, variable: str) -> None:
    times = [t * path.t_start for t in UNEVEN]
    nodes = [Node(path, t) for t in times]
    stencil, s, t = nodes[3::-1], nodes[3], nodes[4]

    def u(node: Node) -> float:
        return {
            "log-snr": node.log_snr,
            "time": node.t / path.t_start,
            "noise-level": node.noise_level / nodes[0].noise_level,
            "snr": math.exp(node.log_snr - t.log_snr),
        }[variable]

    w = weights(s, t, stencil, prediction, variable)
    for degree in range(4):

        def integrand(x: float, degree: int = degree) -> float:
            measure = math.exp(x - t.log_snr) if prediction == "data" else -math.exp(t.log_snr - x)
            return measure * u(s.at(x)) ** degree

        integral, _ = quad(integrand, s.log_snr, t.log_snr, epsabs=1e-14, epsrel=1e-13)
        scale = t.alpha if prediction == "data" else t.sigma
        terms = w * np.array([u(node) ** degree for node in stencil])
        assert terms.sum() == pytest.approx(scale * integral, rel=1e-11, abs=1e-12 * np.abs(terms).sum())


@pytest.mark.parametrize(
    "solver",
    [
        DPMSolver(1),
        DPMSolver(1, prediction="data"),
        DPMSolverPP(1),
        UniPC(1, corrector=False),
        UniPC(1, corrector=False, prediction="noise"),
        *[ExponentialAdams(1, m, u) for m in ("data", "noise") for u in ("log-snr", "time", "noise-level", "snr")],
        PNDM(1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", [*PATHS, Flow()], ids=repr)
def test_every_first_order_method_is_ddim(solver, path) -> None:
    grid = time_grid(path, 6)
    same_coefficients(build_plan(solver, path, grid), build_plan(DDIM(), path, grid), 1e-11)


@pytest.mark.parametrize("path", [*PATHS, Flow()], ids=repr)
def test_unip_2_with_bh2_is_2m_bit_for_bit(path) -> None:
    grid = time_grid(path, 7)
    a, b = (build_plan(s, path, grid) for s in (UniPC(2, corrector=False), DPMSolverPP(2)))
    assert a.instructions == b.instructions


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_unip_3_is_3m_and_exponential_adams(variant: str, prediction: str) -> None:
    path = VPLinear()
    grid = [1.0, *UNEVEN, 1e-3]
    adams = ExponentialAdams(3, prediction)
    # bh1 and bh2 differ where the weight is set to 1/2: in the step with two predictions.
    unip = build_plan(UniPC(3, prediction, variant, corrector=False), path, grid)
    same_coefficients(unip, build_plan(adams, path, grid), 1e-12, skip_rows=2)
    if prediction == "data":
        exact = build_plan(DPMSolverPP(3, form="taylor"), path, grid)
        assert exact.instructions == build_plan(adams, path, grid).instructions


def test_the_published_3m_halves_the_second_difference() -> None:
    path, grid = VPLinear(), [1.0, *UNEVEN, 1e-3]
    exact, published = (build_plan(DPMSolverPP(3, published=flag), path, grid, "stop") for flag in (False, True))
    nodes = [Node(path, t) for t in grid]
    for k in range(2, len(grid) - 1):
        s, t = nodes[k], nodes[k + 1]
        h = t.log_snr - s.log_snr
        r0, r1 = (s.log_snr - nodes[k - 1].log_snr) / h, (nodes[k - 1].log_snr - nodes[k - 2].log_snr) / h
        q3 = (math.expm1(-h) / h + 1) / h - 1 / 2
        # The paper's code: -α_t q3 (A_0 - A_1)/(r_0 + r_1), the sheet's exact row twice that.
        difference = coefficients(exact)[k][f"D{k - 1}"] - coefficients(published)[k][f"D{k - 1}"]
        assert difference == pytest.approx(-t.alpha * q3 / (r0 + r1) / r1, rel=1e-9)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(
    ("solver", "degree"),
    [
        (ExponentialAdams(1, "data"), 0),
        (ExponentialAdams(2, "data"), 1),
        (ExponentialAdams(3, "data"), 2),
        (ExponentialAdams(4, "data"), 3),
        (DPMSolverPP(2), 0),
        (DPMSolverPP(2, form="taylor"), 1),
        (DPMSolverPP(3), 2),
        (DPMSolverPP(3, published=True), 1),
        (DPMSolver(2, "data"), 0),
        (DPMSolver(2, "data", "taylor"), 1),
        (DPMSolver(3, "data"), 1),
        (DPMSolver(3, "data", "taylor"), 2),
        (UniPC(4, corrector=False), 3),
        (PNDM(4), -1),
    ],
    ids=repr,
)
def test_data_predictions_that_are_polynomials_in_lambda_are_exact(path, solver, degree: int) -> None:
    """From an exact history on; the first steps of a multistep method have lower order by construction."""
    times = [path.time(value) for value in np.linspace(-1.5, 3.0, 7) + 0.1 * np.sin(np.arange(7))]
    start = isinstance(solver, ExponentialAdams | DPMSolverPP | UniPC)
    for power in range(degree + 2):
        if degree < 0 and power == 0:
            continue
        error = run_scalar(solver, path, times, power, warm=start)
        if power <= degree:
            assert error < 1e-11
        elif degree >= 0:
            assert error > 1e-6  # it does not claim more than it has


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_the_corrector_is_exact_to_one_degree_more(degree: int, prediction: str) -> None:
    path = VPLinear()
    nodes = [Node(path, t) for t in UNEVEN]
    s, t = nodes[3], nodes[4]
    for power in range(degree + 2):
        value = {node: (node.log_snr - s.log_snr) ** power for node in nodes}
        known = [Known(node, LinearForm({"one": value[node]})) for node in nodes[3::-1][:degree]]
        corrected = UniPC(degree, prediction)._correct(
            LinearForm({}), s, t, known, Known(t, LinearForm({"one": value[t]}))
        )
        h = t.log_snr - s.log_snr
        exact = moments(s, t, power + 1, prediction)[power] * h**power
        # UniC-1 has the weight 1/2 instead of the solution of its system: second order, exact for constants only.
        if power <= (degree if degree > 1 else 0):
            assert corrected.terms.get("one", 0.0) == pytest.approx(exact, rel=1e-11, abs=1e-12)
        elif power == degree + 1:
            assert abs(corrected.terms["one"] / exact - 1) > 1e-4


def test_a_corrected_plan_has_rows_of_bounded_length() -> None:
    """Each row reads one state: carrying the corrected state along unregistered would read all of the past."""
    plan = build_plan(UniPC(3), VPLinear(), time_grid(VPLinear(), 30))
    assert max(len(row) for row in coefficients(plan)) <= 1 + 4 + 1


@pytest.mark.parametrize("steps", [6, 20])
def test_a_constant_noise_prediction_is_exact_for_every_noise_method(steps: int) -> None:
    """eps = x_T / σ_T - α/σ D for a point mass: with mean 0, ε is constant and every method equals DDIM."""
    path = VPLinear()
    grid = time_grid(path, steps, "time")
    for solver in [PNDM(4), PNDM(2, "euler"), PNDM(4, "euler"), DPMSolver(3), ExponentialAdams(4), UniPC(3, "noise")]:
        assert run_scalar(solver, path, grid, 0, kind="noise") < 1e-12


def test_adams_weights_sum_to_one_and_are_the_published_ones() -> None:
    assert [sum(row) for row in ADAMS] == pytest.approx([1, 1, 1, 1], abs=1e-15)
    assert [24 * w for w in ADAMS[3]] == [55, -59, 37, -9]


def test_f_pndm_rows_carry_the_weights_55_59_37_9() -> None:
    path = VPLinear()
    grid = time_grid(path, 8, "time")
    plan = build_plan(PNDM(4), path, grid)
    s, t = Node(path, grid[-2]), Node(path, grid[-1])
    transfer = t.sigma - t.alpha / s.alpha * s.sigma
    evaluations = [i for i in plan.instructions if type(i).__name__ == "Evaluate"]
    rows = coefficients(build_plan(PNDM(4), path, grid, end="stop"))
    newest_first = [rows[-1][i.out] / transfer * 24 for i in reversed(evaluations[-4:])]
    assert newest_first == pytest.approx([55, -59, 37, -9], rel=1e-10)


def test_transfer_has_the_group_property() -> None:
    path = VPLinear()
    s, u, t = (Node(path, v) for v in (0.8, 0.5, 0.2))

    def transfer(x: float, e: float, a: Node, b: Node) -> float:
        return b.alpha / a.alpha * x + float(weights(a, b, [a], "noise")[0]) * e

    assert transfer(transfer(1.3, 0.7, s, u), 0.7, u, t) == pytest.approx(transfer(1.3, 0.7, s, t), rel=1e-13)


@pytest.mark.parametrize("nfe", range(1, 31))
def test_the_fast_combination_spends_the_budget(nfe: int) -> None:
    counts = fast_counts(nfe)
    assert sum(counts) == nfe
    assert len(counts) == nfe // 3 + 1
    assert counts == sorted(counts)  # the low orders first
    published = fast_counts(nfe, published=True)
    assert published[-2:] == [2, 1][-len(counts) :] if nfe % 3 == 0 else published[-1] == nfe % 3
    assert sorted(published) == counts


@pytest.mark.parametrize("solver", [DPMSolver(3), DPMSolver(3, "data"), UniPC(3), ExponentialAdams(3)], ids=repr)
def test_vp_and_ve_tables_agree_after_division_by_alpha(solver) -> None:
    vp, ve = VPLinear(), EDM()
    levels = np.linspace(-3, 3, 6)
    tables = []
    for path in (vp, ve):
        plan = build_plan(solver, path, [path.time(v) for v in levels], end="stop")
        tables.append((plan, run_scalar(solver, path, [path.time(v) for v in levels], 2, raw=True)))
    (_, a), (_, b) = tables
    assert a / vp.alpha(vp.time(3.0)) == pytest.approx(b, rel=1e-11)


def test_pairs_of_equal_steps_give_the_familiar_two_step_weights() -> None:
    path = VPLinear()
    grid = [path.time(v) for v in (-1.0, 0.0, 1.0)]
    row = coefficients(build_plan(DPMSolverPP(2), path, grid, end="stop"))[-1]
    assert row["D2"] / row["D1"] == pytest.approx(1.5 / -0.5)
    for s, t in pairwise(grid):
        assert Node(path, t).log_snr - Node(path, s).log_snr == pytest.approx(1.0)
