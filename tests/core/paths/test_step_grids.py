"""The grids of published schedulers on a ladder: their levels, where they begin, how they end."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError
from anydiff.paths import Ladder, VPLinear, time_grid
from anydiff.samplers import sample
from anydiff.solvers import compile_plan


def levels(plan, path):
    """The times at which a plan calls its network."""
    seen = []

    def look(x, t, condition):
        seen.append(float(torch.as_tensor(t).flatten()[0]))
        return torch.zeros_like(x)

    sample(FunctionDenoiser(look, path, "data"), (1,), 2, solver=plan)
    return seen


@pytest.mark.parametrize(("steps", "last"), [(4, 249), (10, 99), (7, 142)])
def test_trailing_levels_are_those_of_schedulers(steps, last):
    path = Ladder()
    wanted = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    found = time_grid(path, steps, "trailing")
    assert found == [*map(float, wanted), 0.0]
    assert (found[0], found[-2]) == (path.t_start, last)
    assert levels(compile_plan("ddim", path, steps, "trailing"), path) == wanted


def test_prodiffs_five_levels_are_a_ladder_of_their_rates():
    rates = [1 - math.exp(-0.1 / 5 - 39.9 * (2 * i + 1) / 50) for i in range(5)]
    path = Ladder(betas=tuple(rates))
    alphas = [path.alpha(float(i)) for i in range(5)]
    assert alphas == pytest.approx([0.664, 0.199, 0.0268, 0.00162, 4.4e-5], abs=5e-4)
    assert time_grid(path, 1, "trailing") == [4.0, 0.0]


def test_leading_levels_never_reach_the_prior_and_are_refused_from_it():
    path = Ladder()
    wanted = [i * (1000 // 5) for i in reversed(range(5))]
    found = time_grid(path, 4, "leading")
    assert found == list(map(float, wanted)) == [800.0, 600.0, 400.0, 200.0, 0.0]
    plan = compile_plan("ddim", path, 5, "leading", end="denoise")
    assert list(plan.nodes[:5]) == wanted
    oracle = GaussianMixtureOracle(path, torch.zeros(1, 1), 0.5)
    with pytest.raises(AnydiffError, match="the plan starts at t=800, below the prior's t=999"):
        sample(oracle, (1,), 2, solver=plan)


def test_data_of_one_point_give_that_point_but_for_the_noise_of_the_first_rung():
    path, point = Ladder(), torch.tensor([[0.7, -0.3]])
    oracle = FunctionDenoiser(lambda x, t, c: point.to(x).expand_as(x), path, "data")
    for steps in (1, 3, 10):
        made = sample(oracle, (2,), 3, solver=compile_plan("ddim", path, steps, "trailing"))
        assert torch.allclose(made, point.expand(3, 2), atol=3 * path.sigma(0.0))


def test_they_have_a_meaning_on_a_ladder_alone():
    for name in ("leading", "trailing"):
        with pytest.raises(NotApplicableError, match=f"the time grid '{name}' counts the rungs"):
            time_grid(VPLinear(), 4, name)
        most = {"leading": 9, "trailing": 4}[name]
        for steps in range(1, most + 1):
            found = time_grid(Ladder(steps=10), steps, name)
            assert all(a > b for a, b in itertools.pairwise(found))
            assert (len(found), found[-1]) == (steps + 1, 0.0)
        with pytest.raises(AnydiffError, match=f"take at most {most} steps"):
            time_grid(Ladder(steps=10), most + 1, name)
    with pytest.raises(UnknownNameError, match="trailing"):
        time_grid(Ladder(), 4, "trailling")
