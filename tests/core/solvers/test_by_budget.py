"""The default choice: how it is reached, its grid, and how it compares on mixtures that it was not chosen on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from exact import PATHS, mixture, root_mean_square, uneven
from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.paths import EDM, VPLinear, time_grid
from anydiff.plugins import report_to
from anydiff.recipes import SamplingSettings
from anydiff.registry import registry
from anydiff.samplers import DEFAULT_NFE, DEFAULT_SOLVER, sample
from anydiff.solvers import compile_plan, execute
from anydiff.solvers.adams import ExponentialAdams
from anydiff.solvers.base import build_plan
from anydiff.solvers.velocity_adams import VelocityAdams

PATH = VPLinear()


def test_it_is_velocity_adams_on_the_learned_grid() -> None:
    for nfe, degree, final in ((5, 5, True), (12, 5, True), (13, 4, False), (24, 4, False), (25, 5, False)):
        plan = compile_plan("by-budget", PATH, nfe)
        own = compile_plan(VelocityAdams(degree, lower_order_final=final), PATH, nfe, "learned")
        assert plan.nodes == own.nodes
        assert plan.instructions == own.instructions
        assert plan.nfe == nfe
    assert compile_plan("by-budget", PATH, 6, "time").nodes == tuple(time_grid(PATH, 6, "time"))


def test_its_old_name_is_understood_with_a_word() -> None:
    oracle = mixture(PATH)
    named = sample(oracle, (2,), 5, nfe=8, solver="by-budget")
    said: list[str] = []
    report_to(said.append)
    try:
        assert torch.equal(sample(oracle, (2,), 5, nfe=8, solver="default"), named)
    finally:
        report_to(None)
    assert said == ["solver 'default' is called 'by-budget' now; write that."]


def test_what_is_used_where_nothing_is_said_is_one_constant() -> None:
    oracle = mixture(PATH)
    named = sample(oracle, (2,), 5, nfe=DEFAULT_NFE, solver=DEFAULT_SOLVER)
    assert torch.equal(sample(oracle, (2,), 5), named)
    assert SamplingSettings().solver.name == DEFAULT_SOLVER
    assert SamplingSettings().nfe == DEFAULT_NFE


@pytest.mark.parametrize("name", list(PATHS))
def test_the_learned_grid_is_uniform_in_its_own_place(name: str) -> None:
    path = PATHS[name]
    nodes = time_grid(path, 12, "learned")
    assert (nodes[0], nodes[-1]) == (path.t_start, path.t_end)
    assert all(s > t for s, t in itertools.pairwise(nodes))
    u = np.array([1 / (1 + math.exp(path.log_snr(t))) for t in nodes[1:-1]])
    places = np.sqrt(u) + u**22 / 16
    np.testing.assert_allclose(np.diff(places), np.diff(places).mean(), rtol=1e-6)


def test_all_paths_get_the_same_noise_levels() -> None:
    """Between the same ends, since the place is a function of the log-SNR."""
    last, first = (math.exp(-PATH.log_snr(t)) for t in (PATH.t_end, PATH.t_start))
    edm = EDM(t_start=first, t_end=last)
    levels = [[path.log_snr(t) for t in time_grid(path, 9, "learned")] for path in (PATH, edm)]
    np.testing.assert_allclose(levels[0], levels[1], atol=1e-7)


def unseen(seed: int) -> tuple[Denoiser, Tensor, Tensor]:
    """A random mixture of another law than the one that the grid was fitted on, its starts and their exact ends."""
    rng = np.random.default_rng(seed)
    size = (2, 8, 32, 128)[seed % 4]
    oracle = uneven(PATH, rng, size)
    start = torch.from_numpy(rng.standard_normal((64, size)))
    levels = torch.linspace(PATH.log_snr(PATH.t_start), 8.0, 201, dtype=torch.float64)
    grid = [PATH.t_start, *PATH.time(levels[1:]).tolist()]
    return oracle, start, execute(build_plan(ExponentialAdams(4), PATH, grid), oracle, start)


def test_no_other_choice_is_much_better_on_unseen_mixtures() -> None:
    """Within 1.2 of the best single choice of solver and grid for the budget, in the geometric mean over mixtures."""
    cases = [unseen(seed) for seed in range(900, 908)]
    others = [
        (name, options, grid)
        for name, options in (
            ("velocity-adams", {}),
            ("velocity-adams", {"lower_order_final": True}),
            ("velocity-adams", {"degree": 5}),
            ("unipc-3", {"prediction": "noise"}),
            ("dpm-solver++-2m", {}),
        )
        for grid in ("quadratic", "power-2.5", "learned")
    ]
    for nfe in (5, 8, 15):

        def error(name: str, options: dict, grid: str | None, nfe: int = nfe) -> float:
            plan = compile_plan(registry().build("solvers", name, **options), PATH, nfe, grid)
            logs = [math.log(root_mean_square(execute(plan, oracle, x) - end)) for oracle, x, end in cases]
            return math.exp(sum(logs) / len(logs))

        best = min(error(*choice) for choice in others)
        assert error("by-budget", {}, None) <= 1.2 * best, nfe
