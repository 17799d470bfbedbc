"""What the papers' methods reduce to: DPS, DDRM, RePaint and RED-Diff against their own formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.inverse import DDNM, DDRM, DPS, Adam, AsymmetricLaplace, PiGDM, Poisson, Problem, RedDiff, RePaint, descend
from anydiff.inverse.operators import (
    AveragePooling,
    Blur,
    Clipped,
    Composition,
    Magnitude,
    Mask,
    Matrix,
    Quantised,
    SparseMatrix,
)
from anydiff.paths import Flow, ProductPath, VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.next_row import data_coefficients
from anydiff.solvers.walk import Walk, compile_walk
from anydiff.states import Leaf, NoiseSource, StateSpec


def correlated(path=None, size=4):
    return GaussianOracle(path or VPCosine(), torch.zeros(size), torch.eye(size) + 0.5)


def problem(noise=0.3, size=4, seen=(True, False, True, False)):
    generator = torch.Generator().manual_seed(3)
    return Problem(Mask((size,), seen), torch.randn(size, generator=generator, dtype=torch.float64), noise)


# DPS ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm-solver++-2m", "dpm-solver-1", "euler"])
def test_a_shift_of_the_next_state_is_made_by_a_shift_of_the_prediction(solver):
    """The state of a plan's second call moves by -ζ ∇|r|²/|r| at the first."""
    inner, path = correlated(), VPCosine()
    states = {}

    def seen(name):
        return [lambda step: states.setdefault((name, step.index), step.state.clone())]

    options = {"nfe": 4, "solver": solver, "dtype": torch.float64, "seed": 1}
    sample(inner, (4,), 3, callbacks=seen("plain"), **options)
    given = problem()
    DPS(0.7).solve(given, inner, (4,), 3, callbacks=seen("dps"), **options)
    x = states["plain", 1].clone().requires_grad_()
    residual = given.residual(inner(x, path.t_start))
    norm = residual.norm(dim=1)
    (slope,) = torch.autograd.grad((residual.square().sum(1) / norm.detach()).sum(), x)
    moved = states["dps", 2] - states["plain", 2]
    assert torch.allclose(moved, -0.7 * slope, atol=1e-9)
    assert float(moved.abs().max()) > 1e-3


def test_coefficients_are_those_of_the_next_row():
    path = VPCosine()
    plan = compile_plan("ddim", path, 3, end="stop")
    found = data_coefficients(plan, path)
    for t, s in itertools.pairwise(plan.nodes[:4]):
        assert found[t] == pytest.approx(path.alpha(s) - path.sigma(s) / path.sigma(t) * path.alpha(t), rel=1e-9)


@pytest.mark.parametrize("form", ["published", "likelihood"])
def test_without_scale_nothing_changes(form):
    plain = sample(correlated(), (4,), 5, nfe=6, solver="ddpm")
    assert torch.equal(DPS(0.0, form).solve(problem(), correlated(), (4,), 5, nfe=6, solver="ddpm"), plain)


@pytest.mark.parametrize(
    ("operator", "noise"),
    [
        (Quantised((4,), 0.5), 0.3),
        (Magnitude((4,)), 0.3),
        (Mask((4,), [True] * 4), AsymmetricLaplace(0.5, 0.3)),
        (Matrix((4,), torch.ones(1, 4)), Poisson(4.0)),
    ],
)
def test_any_operator_and_any_noise(operator, noise):
    """Misfit falls, whatever the operator and the law."""
    truth = torch.tensor([[1.0, 0.8, 1.2, 0.5]], dtype=torch.float64)
    given = Problem(operator, operator.forward(truth), noise)
    for method in (DPS(0.5), DPS(0.3, "likelihood"), RedDiff()):
        found = method.solve(given, correlated(), (4,), 64, nfe=30, dtype=torch.float64)
        plain = sample(correlated(), (4,), 64, nfe=30, dtype=torch.float64)
        assert float(given.residual(found).norm(dim=1).median()) < float(given.residual(plain).norm(dim=1).median())


# DDRM ---------------------------------------------------------------------------------------------------------------


def test_ddrm_gives_a_whole_measurement_without_noise():
    """Equality of s κ' and s_y belongs to the case of the measurement."""
    y = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = DDRM().solve(Problem(Mask((4,), [True] * 4), y), correlated(), (4,), 3, nfe=5, dtype=torch.float64)
    assert torch.allclose(found, y.expand(3, 4), atol=1e-12)
    pooled = Problem(AveragePooling((1, 4), 2), torch.tensor([[0.5, -0.2]]))
    found = DDRM().solve(pooled, GaussianOracle(Flow(), torch.zeros(1, 4), 1.0), (1, 4), 3, nfe=5, dtype=torch.float64)
    assert torch.allclose(found.reshape(3, 2, 2).mean(2), torch.tensor([0.5, -0.2], dtype=torch.float64), atol=1e-9)


def test_ddrm_of_white_data_with_noise():
    """N(0, 1) seen with s_y = 0.5, 100 steps: the unseen keeps its law nearly, the seen comes near the posterior's."""
    inner = GaussianOracle(VPCosine(), torch.zeros(2), 1.0)
    given = Problem(Mask((2,), [True, False]), torch.tensor([1.0, 0.0]), 0.5)
    found = DDRM().solve(given, inner, (2,), 2000, nfe=100, dtype=torch.float64, batch_size=2000)
    assert float(found[:, 0].mean()) == pytest.approx(0.8, abs=0.2)
    assert float(found[:, 1].std()) == pytest.approx(0.85, abs=0.1)
    assert float(found[:, 1].mean()) == pytest.approx(0.0, abs=0.1)


# RePaint ------------------------------------------------------------------------------------------------------------


def test_the_schedule_of_repaint():
    visits = Walk(length=10, times=9).visits(249)
    assert visits[0] == 0
    assert visits[-1] == 249
    assert {abs(a - b) for a, b in itertools.pairwise(visits)} == {1}
    assert len(visits) == 250 + 24 * 9 * 20
    assert Walk(length=10, times=0).visits(249) == list(range(250))
    assert Walk(length=3, times=1).visits(6) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 4, 5, 6]


def test_a_climb_spends_no_call_and_says_so():
    walk = Walk(1.0, length=2, times=1)
    plan = compile_walk(walk, VPCosine(), 12)
    assert plan.nfe == walk.calls(len(plan.nodes) - 1) <= 12
    text = str(plan)
    assert text.count("data(") == plan.nfe
    assert "noise[" in text


def test_climbing_keeps_the_law():
    """White data, nothing measured: the walk's samples keep their deviation however often it climbs."""
    inner = GaussianOracle(VPCosine(), torch.zeros(1), 1.0)
    plan = compile_walk(Walk(1.0, length=2, times=3), VPCosine(), 150)
    found = sample(inner, (1,), 1000, solver=plan, dtype=torch.float64, batch_size=1000)
    assert float(found.std()) == pytest.approx(0.95, abs=0.1)


def test_a_rise_is_inversion():
    """Down to a node, up again by the same prediction's formula at the lower node."""
    inner, path = correlated(), VPCosine()
    plan = compile_walk(Walk(length=1, times=1, climb="rise"), path, 4)
    assert Walk(length=1, times=1, climb="rise").visits(1) == [0, 1, 0, 1]
    states = []
    sample(
        inner, (4,), 2, solver=plan, dtype=torch.float64, callbacks=[lambda s: states.append((s.t, s.state.clone()))]
    )
    (top, first), (low, second), (again, third), (end, fourth) = states
    assert (top, low) == (again, end)
    for (s, x), (t, y) in (
        ((top, first), (low, second)),
        ((low, second), (again, third)),
        ((again, third), (end, fourth)),
    ):
        data = inner(x, s)
        assert torch.allclose(y, path.alpha(t) * data + path.sigma(t) / path.sigma(s) * (x - path.alpha(s) * data))


def test_repaint_keeps_known_entries():
    y = torch.tensor([0.7, math.nan, -1.0, math.nan], dtype=torch.float64)
    given = Problem(Mask((4,), [True, False, True, False]), y)
    found = RePaint().solve(given, correlated(), (4,), 3, nfe=20, dtype=torch.float64)
    assert torch.equal(found[:, [0, 2]], y[[0, 2]].expand(3, 2))


# RED-Diff -----------------------------------------------------------------------------------------------------------


def test_the_regulariser_of_a_gaussian():
    """Mean of ê - ε over antithetic pairs: σ α (α² C + σ² I)⁻¹ (μ - m), of which the noise drops out."""
    cov = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
    mean = torch.tensor([0.5, -0.3], dtype=torch.float64)
    path = VPLinear()
    inner = GaussianOracle(path, mean, cov)
    mu = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0.2, 0.7):
        alpha, sigma = path.alpha(t), path.sigma(t)
        pairs = torch.cat([noise, -noise])
        found = (inner.predict(alpha * mu + sigma * pairs, t, "noise") - pairs).mean(0)
        total = alpha**2 * cov + sigma**2 * torch.eye(2, dtype=torch.float64)
        assert torch.allclose(found, sigma * alpha * torch.linalg.solve(total, (mu - mean).T)[:, 0], atol=1e-10)


def test_the_fixed_point_of_plain_descent():
    """Gradient descent at all levels alike settles where data term and regulariser agree."""
    cov = torch.tensor([[1.0, 0.4, 0.1], [0.4, 0.5, 0.2], [0.1, 0.2, 0.8]], dtype=torch.float64)
    mean, path = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64), VPLinear()
    inner = GaussianOracle(path, mean, cov)
    a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([1.5, -1.0], dtype=torch.float64)
    levels = torch.linspace(0.05, 0.6, 12).tolist()
    weight = torch.zeros(3, 3, dtype=torch.float64)
    for t in levels:
        alpha, sigma = path.alpha(t), path.sigma(t)
        weight += (
            sigma**2 * torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(3, dtype=torch.float64)) / len(levels)
        )
    right = a.T @ y / 2 + weight @ mean / 3
    fixed = torch.linalg.solve(a.T @ a / 2 + weight / 3, right)

    def gradient(mu, noise, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        pairs = torch.cat([noise, -noise])
        both = (inner.predict(alpha * mu + sigma * pairs, t, "noise") - pairs).mean(0, keepdim=True)
        return sigma / alpha * both / 3 - (y - mu @ a.T) @ a / 2

    source = NoiseSource(StateSpec.single((3,)), 0)
    found = descend(
        torch.zeros(1, 3, dtype=torch.float64), levels * 150, gradient,
        lambda k, mu, g: mu - (0.2 if k < 1200 else 0.01) * g,
        lambda k: source.draw([0], k, torch.float64, torch.device("cpu")),
    )  # fmt: skip
    assert torch.allclose(found[0], fixed, rtol=1e-2, atol=1e-2)


def test_adam_is_torchs():
    start = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = start.clone().requires_grad_()
    theirs, ours, state = torch.optim.Adam([leaf], lr=0.05, betas=(0.9, 0.99)), Adam(0.05), start
    for number in range(5):
        leaf.grad = (2 * leaf + leaf.sin()).detach()
        theirs.step()
        state = ours(number, state, 2 * state + state.sin())
    assert torch.allclose(state, leaf.detach(), atol=1e-9)


def test_an_optimiser_is_a_point_estimate():
    """Its members differ far less than samples do, and its calls are those it says."""
    calls = []
    given = problem(0.05)
    options = {"nfe": 40, "dtype": torch.float64}
    found = RedDiff().solve(given, correlated(), (4,), 64, callbacks=[lambda step: calls.append(step.index)], **options)
    assert calls == list(range(1, 41))
    drawn = DDRM().solve(given, correlated(), (4,), 64, **options)
    assert float(found[:, 1].std()) < 0.7 * float(drawn[:, 1].std())
    assert RedDiff.estimate == "point"


# Refusals -----------------------------------------------------------------------------------------------------------


def leaves():
    spec = StateSpec([Leaf("a", (2,)), Leaf("b", (2,))])
    return GaussianOracle(ProductPath((("a", VPCosine()), ("b", VPCosine(t_end=0.02)))).bind(spec), torch.zeros(4), 1.0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: DDRM().solve(Problem(SparseMatrix((4,), torch.eye(4)), torch.ones(4), 0.1), correlated(), (4,)),
            "singular",
        ),
        (lambda: DDRM().solve(Problem(Blur((4,), 1.0), torch.ones(4), torch.ones(4)), correlated(), (4,)), "one size"),
        (lambda: RePaint().solve(Problem(Blur((4,), 1.0), torch.ones(4), 0.1), correlated(), (4,)), "masks alone"),
        (lambda: RedDiff().solve(problem(), correlated(), (4,), solver="ddim"), "optimiser, which no solver"),
        (lambda: RedDiff().solve(problem(), leaves(), (4,)), "needs one schedule"),
        (lambda: DDRM().solve(problem(), leaves(), (4,)), "use the method 'pigdm'"),
        (lambda: DPS().solve(problem(), correlated(), (4,), solver="adaptive-ode"), "form=likelihood"),
        (lambda: DPS(form="norm"), "form of DPS"),
        (lambda: DPS(-1.0), "scale is -1"),
        (lambda: RedDiff(weight="cubic"), "weight of RED-Diff"),
        (lambda: Walk(2.0), "eta is 2"),
        (lambda: Walk(rule="ddpm"), "rule"),
        (lambda: AsymmetricLaplace(1.5), "level is 1.5"),
        (lambda: Poisson(0.0), "gain is 0"),
    ],
)
def test_what_is_refused(call, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        call()


def test_a_composition_goes_with_what_needs_no_svd():
    operator = Composition((AveragePooling((1, 4), 2), Blur((1, 4), 0.5)))
    given = Problem(operator, torch.tensor([[0.5, -0.2]]), 0.05)
    found = DPS(0.5).solve(given, GaussianOracle(VPCosine(), torch.zeros(1, 4), 1.0), (1, 4), 8, nfe=40)
    assert float(given.residual(found).abs().mean()) < 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda value: DPS(value),
        lambda value: RedDiff(strength=value),
        lambda value: RedDiff(rate=value),
        lambda value: DDRM(eta_b=value),
        lambda value: DDNM(eta=value),
        lambda value: RePaint(eta=value),
        lambda value: PiGDM(scale=value),
        lambda value: Walk(value),
        lambda value: AsymmetricLaplace(value),
        lambda value: Poisson(value),
        lambda value: Quantised((4,), value),
        lambda value: Clipped((4,), low=value),
    ],
)
def test_an_option_that_is_no_number_is_one_sentence(make):
    """``--method-option scale=nan`` is the text 'nan', which compared with a number was a TypeError."""
    for value in ("nan", math.nan, True, None, [1.0]):
        with pytest.raises(AnydiffError, match=r"is .*, but must be a finite number"):
            make(value)


def test_an_operator_that_is_not_linear_is_called_by_its_own_name():
    given = Problem(Quantised((4,), 0.5), torch.zeros(4), 0.1).in_states(2.0, 1.0)
    with pytest.raises(AnydiffError, match="the operator Quantised is not linear"):
        DDRM().solve(given, correlated(), (4,))
