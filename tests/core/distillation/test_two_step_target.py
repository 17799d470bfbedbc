"""The target of progressive distillation against what it is defined by: the jumps that it stands for."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser, GaussianOracle
from anydiff.distillation import halved, two_step_target
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine, VPLinear
from anydiff.paths.base import GaussianPath
from anydiff.registry import registry
from anydiff.solvers.base import build_plan
from anydiff.solvers.ddim import DDIM
from anydiff.solvers.executor import execute
from anydiff.states import Conditioning, StateSpec

BUILT = {"product": {"leaves": {"state": "vp-linear"}}}
PATHS = [entry.name for entry in registry().entries("paths") if entry.plugin == "anydiff"]


def built(name):
    try:
        path = registry().build("paths", name, **BUILT.get(name, {}))
    except AnydiffError:  # a law over classes that has no default
        return None
    return path.bind(StateSpec.single((3,), name="state")) if isinstance(path, GaussianPath) else None


GAUSSIAN = [name for name in PATHS if built(name) is not None]
assert len(GAUSSIAN) > 12


def jumped(path, x, times, data, condition):
    """DDIM by the executor, from one of ``times`` to the next."""
    plan = build_plan(DDIM(), path, times, end="stop")
    return execute(plan, FunctionDenoiser(data, path), x, condition=condition)


def curved(x, t, condition=None):
    """A data prediction that is not linear, of each row by itself."""
    return torch.tanh(1.3 * x.flip(-1)) * 0.7 + 0.1


@pytest.mark.parametrize("name", GAUSSIAN)
@pytest.mark.parametrize("kind", ["data", "noise", "velocity", "edm"])
def test_one_step_by_the_target_lands_where_two_steps_do(name, kind):
    path = built(name)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    condition = Conditioning(
        sources={n: torch.randn(4, 3, generator=generator, dtype=torch.float64) for n in path.known}
    )
    low, high = path.t_end, path.t_start
    # A plan takes its states to be of the path's first time, where a known source may stand with another weight.
    shares = (0.0, 0.45, 0.9) if path.known else (0.2, 0.55, 0.9)
    times = [high + (low - high) * share for share in shares]
    if kind == "noise" and path.alpha(times[0]) == 0:
        pytest.skip("a noise prediction says nothing of data where no signal is left")
    teacher = FunctionDenoiser(curved, path, kind, sigma_data=0.8)
    t, middle, end = (torch.full((4,), each, dtype=torch.float64) for each in times)
    target = two_step_target(teacher, x, t, middle, end, condition)
    twice = execute(build_plan(DDIM(), path, times, end="stop"), teacher, x, condition=condition)
    once = jumped(path, x, [times[0], times[2]], lambda *given: target, condition)
    size = float(twice.abs().max().clamp(min=1))
    assert float((once - twice).abs().max()) < 1e-12 * max(size, float(target.abs().max()))


def test_times_may_differ_from_row_to_row():
    path = VPLinear()
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    teacher = FunctionDenoiser(curved, path)
    grid = torch.linspace(1.0, 0.001, 7, dtype=torch.float64)
    t, middle, end = grid[[0, 2, 4]], grid[[1, 3, 5]], grid[[2, 4, 6]]
    together = two_step_target(teacher, x, t, middle, end)
    for row in range(3):
        one = [each[row : row + 1] for each in (x, t, middle, end)]
        torch.testing.assert_close(two_step_target(teacher, *one)[0], together[row], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("path", [VPLinear(), VPCosine()])
def test_for_gaussian_data_one_step_is_the_composition_of_two(path):
    """An exact denoiser of Gaussian data is affine, so the student's best step is one affine map: that of both."""
    mean = torch.tensor([0.3, -0.2], dtype=torch.float64)
    oracle = GaussianOracle(path, mean, torch.diag(torch.tensor([0.5, 0.1], dtype=torch.float64)))
    times = [0.8, 0.5, 0.25]
    t, middle, end = (torch.full((5,), each, dtype=torch.float64) for each in times)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = two_step_target(oracle, x, t, middle, end)
    # The affine map x -> target, from three of the points, gives the others.
    inputs = torch.cat([x[:3], torch.ones(3, 1, dtype=torch.float64)], dim=1)
    fitted = torch.linalg.solve(inputs, target[:3])
    rest = torch.cat([x[3:], torch.ones(2, 1, dtype=torch.float64)], dim=1) @ fitted
    assert float((rest - target[3:]).abs().max()) < 1e-10
    first = jumped(path, x, times[:2], oracle, Conditioning())
    second = jumped(path, first, times[1:], oracle, Conditioning())
    once = jumped(path, x, [times[0], times[2]], lambda *given: target, Conditioning())
    assert float((once - second).abs().max()) < 1e-10


def test_data_of_one_point_give_that_point_at_every_time():
    point = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    teacher = FunctionDenoiser(lambda x, t: point.expand_as(x), VPLinear())
    for t in (1.0, 0.4, 0.01):
        times = [torch.tensor([t * share], dtype=torch.float64) for share in (1.0, 0.7, 0.5)]
        found = two_step_target(teacher, torch.randn(1, 2, dtype=torch.float64), *times)
        assert float((found - point).abs().max()) < 1e-14


def test_where_the_end_is_clean_the_target_is_the_second_prediction():
    path, asked = VPLinear(), []

    def seen(x, t):
        asked.append(curved(x, t))
        return asked[-1]

    t, middle, end = (torch.full((4,), each, dtype=torch.float64) for each in (0.9, 0.4, 0.0))
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = two_step_target(FunctionDenoiser(seen, path), x, t, middle, end)
    assert float((target - asked[1]).abs().max()) < 1e-12
    assert float((asked[1] - asked[0]).abs().max()) > 1e-2


def test_on_a_fine_grid_the_target_keeps_its_digits_in_single_precision():
    """The form that divides (x'' - r x) by a vanishing number loses them."""
    path, fine = VPLinear(), 1e-5
    times = [0.3, 0.3 - fine, 0.3 - 2 * fine]
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    teacher = FunctionDenoiser(curved, path)
    t, middle, end = (torch.full((8,), each, dtype=torch.float64) for each in times)
    exact = two_step_target(teacher, x, t, middle, end)
    single = two_step_target(teacher, x.float(), t, middle, end)
    assert float((single - exact).abs().max()) < 1e-6
    twice = execute(build_plan(DDIM(), path, times, end="stop"), teacher, x.float())
    ratio = path.sigma(times[2]) / path.sigma(times[0])
    naive = (twice - ratio * x.float()) / (path.alpha(times[2]) - ratio * path.alpha(times[0]))
    assert float((naive - exact).abs().max()) > 1e-4


def test_halving_keeps_both_ends():
    assert halved([1.0, 0.7, 0.4, 0.2, 0.0]) == (1.0, 0.4, 0.0)
    with pytest.raises(AnydiffError, match="a grid of 3 steps cannot be halved"):
        halved([1.0, 0.7, 0.4, 0.0])
