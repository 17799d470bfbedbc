"""DiffusionMBIR against its parts: differences, shrinkage, one iteration of ADMM, the limits of λ and ρ, slices."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import GaussianOracle, SliceDenoiser
from anydiff.errors import AnydiffError
from anydiff.inverse import DiffusionMBIR, Problem
from anydiff.inverse.diffusion_mbir import BEGIN, DUAL, SPLIT, STATE
from anydiff.inverse.operators import Differences, Mask, Matrix, Quantised, Radon, dense, dot_test
from anydiff.inverse.operators.conjugate import conjugate_gradients
from anydiff.inverse.proximal import shrink
from anydiff.paths import VE, Flow, ProductPath, VPCosine
from anydiff.samplers import sample
from anydiff.solvers.predictor_corrector import PredictorCorrector
from anydiff.states import NoiseSource, StateSpec

SHAPE = (5, 3, 3)  # slices first
PATH = VE(0.01, 10.0)


def volume(seed=0, count=1):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slices(path=PATH, axis=0, chunk=4):
    return SliceDenoiser(GaussianOracle(path, torch.zeros(3, 3), torch.eye(9) + 0.5), axis, chunk)


def projections(noise=0.02, shape=SHAPE):
    operator = Radon(shape, [0.0, 60.0, 120.0])
    return Problem(operator, operator.forward(volume(9)), noise)


def iterate(method, problem, x, times, alpha=1.0):
    """So many iterations from zero duals, with what the operations are called in a plan."""
    run = method.operations(problem)
    z = w = run[BEGIN](x, t=0.5)
    for _ in range(times):
        x = run[STATE](x, z, w, t=0.5, alpha=alpha)
        z = run[SPLIT](x, w, t=0.5, alpha=alpha)
        w = run[DUAL](x, z, w, t=0.5, alpha=alpha)
    return x, z, w


def test_differences_have_their_adjoint_and_eigenvalues():
    operator = Differences((7, 2), 0)
    assert dot_test(operator) < 1e-10
    assert float(operator.forward(torch.ones(1, 7, 2)).abs().max()) == 0
    matrix = dense(Differences((7,), 0))[0]
    right = torch.tensor([2 - 2 * math.cos(2 * math.pi * k / 7) for k in range(7)], dtype=torch.float64)
    assert torch.allclose(torch.linalg.eigvalsh(matrix.T @ matrix), right.sort().values, atol=1e-10)
    assert float(Differences((1, 4), 0).forward(torch.randn(2, 1, 4)).abs().max()) == 0
    with pytest.raises(AnydiffError, match="axis is 3, but a state"):
        Differences(SHAPE, 3)


def test_shrinkage():
    u = torch.tensor([-2.0, -0.5, 0.0, 0.4, 3.0])
    assert torch.equal(shrink(u, 0.5), torch.tensor([-1.5, 0.0, 0.0, 0.0, 2.5]))
    assert torch.equal(shrink(u, 0.0), u)


def test_conjugate_gradients_end_after_as_many_steps_as_unknowns():
    """A second direction that is wrong (an alias of the first) does not."""
    a = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spd, right = a @ a.T + torch.eye(6), torch.randn(2, 6, generator=torch.Generator().manual_seed(2)).double()
    found = conjugate_gradients(lambda p: (p @ spd, p), right, 6)[0]
    assert torch.allclose(found @ spd, right, atol=1e-8)


def test_without_variation_an_iteration_is_a_step_of_conjugate_gradients():
    """λ = 0, ρ -> 0: on Aᵀ A x = Aᵀ y from x, A divided by its norm."""
    given, x = projections(), volume(3)
    found = iterate(DiffusionMBIR(0.0, 1e-12, axis=0), given, x, 1)[0]
    operator = given.linear_operator
    residual = operator.adjoint(given.residual(x)) / operator.norm**2
    image = operator.adjoint(operator.forward(residual)) / operator.norm**2
    right = x + residual.square().sum() / (residual * image).sum() * residual
    assert torch.allclose(found, right, atol=1e-8)


def test_the_iterations_converge_to_the_least_total_variation():
    """Aᵀ(A x - y) + λ D_zᵀ u = 0 with |u| <= 1, and u the sign of D_z x where that is not 0."""
    shape, strength = (6, 2, 2), 0.05
    matrix = torch.randn(20, 24, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    operator = Matrix(shape, matrix / torch.linalg.matrix_norm(matrix, 2))
    truth = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64).expand(1, *shape)
    given = Problem(operator, operator.forward(truth.contiguous()), 0.1)
    method = DiffusionMBIR(strength, 0.1, axis=0, steps=30)
    x, _, w = iterate(method, given, torch.zeros(1, *shape, dtype=torch.float64), 3000)
    across = Differences(shape, 0)
    u = method.coupling * w / strength
    assert float((-operator.adjoint(given.residual(x)) + strength * across.adjoint(u)).norm()) < 1e-4
    assert float(u.abs().max()) < 1 + 1e-6
    jumps = across.forward(x)
    clear = jumps.abs() > 1e-4
    assert torch.allclose(u[clear], jumps[clear].sign(), atol=1e-4)


@pytest.mark.parametrize("path", [PATH, VPCosine(), Flow()], ids=["ve", "vp", "flow"])
def test_everything_measured_without_noise_is_what_comes_out(path):
    """A = I, λ = ρ = 0: y, which is known and so put back exactly."""
    y = volume(6)
    given = Problem(Mask(SHAPE, torch.ones(SHAPE, dtype=torch.bool)), y)
    found = DiffusionMBIR(0.0, 0.0, axis=0).solve(given, slices(path), SHAPE, 2, nfe=10, dtype=torch.float64)
    assert torch.equal(found, y.expand(2, *SHAPE))


def test_one_slice_has_no_variation():
    """Z = 1: the same as λ = 0, whatever λ."""
    operator = Radon((1, 3, 3), [0.0, 90.0])
    given = Problem(operator, operator.forward(volume(7)[:, :1]), 0.02)
    common = {"nfe": 12, "dtype": torch.float64}
    one = DiffusionMBIR(5.0, 2.0, axis=0).solve(given, slices(), (1, 3, 3), 2, **common)
    two = DiffusionMBIR(0.0, 2.0, axis=0).solve(given, slices(), (1, 3, 3), 2, **common)
    assert torch.equal(one, two)


class Permuted:
    """The noise of another order of slices."""

    def __init__(self, order):
        self.source, self.order = NoiseSource(StateSpec.single(SHAPE), 0), order

    def draw(self, samples, draw, dtype, device):
        return self.source.draw(samples, draw, dtype, device)[:, self.order]


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_the_order_of_slices_matters_where_variation_does(strength):
    order = [3, 0, 4, 2, 1]
    given = projections()
    other = Problem(given.operator, given.measurement[:, order], 0.02)
    method = DiffusionMBIR(strength, 1.0 if strength else 0.0, axis=0, snr=0.1)
    common = {"nfe": 20, "dtype": torch.float64}
    plain = method.solve(given, slices(), SHAPE, 1, **common)
    moved = method.solve(other, slices(), SHAPE, 1, noise=Permuted(order), **common)
    assert torch.allclose(moved, plain[:, order], atol=1e-8) == (strength == 0)


def test_nothing_measured_is_predictor_corrector():
    given = Problem(Mask(SHAPE, torch.zeros(SHAPE, dtype=torch.bool)), torch.full(SHAPE, math.nan))
    found = DiffusionMBIR(axis=0).solve(given, slices(), SHAPE, 2, nfe=9)
    solver = PredictorCorrector(step="norm")
    assert torch.equal(found, sample(slices(), SHAPE, 2, nfe=9, solver=solver, grid="log-snr", end="stop"))


def test_duals_are_registers_and_belong_to_their_sample():
    """No sample, chunk or earlier volume changes another; a second solve gives the same."""
    method, given = DiffusionMBIR(0.2, 2.0, axis=0), projections()
    common = {"nfe": 14, "dtype": torch.float64}
    first = method.solve(given, slices(), SHAPE, 3, **common)
    assert torch.equal(method.solve(given, slices(), SHAPE, 3, **common), first)
    assert torch.allclose(method.solve(given, slices(), SHAPE, 3, batch_size=1, **common), first, atol=1e-10)
    plan = method.plan(given, PATH, 6, None)
    assert str(plan).count(STATE) == str(plan).count(SPLIT) == str(plan).count(DUAL) == 3


def test_a_denoiser_of_slices_is_that_of_each_slice():
    inner = slices().inner
    x = volume(8, 2)
    assert torch.allclose(slices()(x, 0.5), torch.stack([inner(x[:, k], 0.5) for k in range(5)], 1), atol=1e-12)
    last = SliceDenoiser(inner, -1, 3)
    assert torch.allclose(last(x.movedim(1, -1), 0.5), slices()(x, 0.5).movedim(1, -1), atol=1e-12)
    times = torch.tensor([0.3, 0.8], dtype=torch.float64)
    each = torch.cat([slices()(x[:1], 0.3), slices()(x[1:], 0.8)])
    assert torch.allclose(slices()(x, times), each, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: DiffusionMBIR(-1.0), "strength is -1.0, but must be a finite number of at least 0"),
        (lambda: DiffusionMBIR(steps=0), "steps is 0"),
        (lambda: DiffusionMBIR(axis=4).solve(projections(), slices(), SHAPE), "axis is 4"),
        (lambda: DiffusionMBIR(axis=0).solve(projections(), slices(), SHAPE, nfe=1), "needs at least 2 network calls"),
        (lambda: DiffusionMBIR(axis=0).solve(projections(), slices(), SHAPE, solver="ddim"), "a plan of its own"),
        (
            lambda: DiffusionMBIR(axis=0).solve(Problem(Quantised(SHAPE, 0.5), volume()), slices(), SHAPE),
            "Quantised is not linear",
        ),
        (lambda: SliceDenoiser(slices().inner, 0, 0), "chunk is 0"),
    ],
)
def test_what_is_refused(call, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        call()


def test_paths_of_several_schedules_are_refused():
    spec = StateSpec.single((3,))
    path = ProductPath((("state", VPCosine()),)).bind(spec)
    given = Problem(Mask((3,), [True, False, True]), torch.zeros(3), 0.1)
    with pytest.raises(AnydiffError, match="needs one schedule from noise to data"):
        DiffusionMBIR().solve(given, GaussianOracle(path, torch.zeros(3), 1.0), spec)
