"""AutoDiffusion: sets of times, what is asked of the network, and a search whose answer can be found by a scan."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from exact import Counting

from anydiff.calibration import AutoDiffusion, Setting, calibrate
from anydiff.calibration.autodiffusion import Grids, frechet, nodes_of, search_grid, time_of, uniform
from anydiff.calibration.reference import Trials
from anydiff.denoisers import GaussianMixtureOracle, GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.metrics.distances import frechet_distance
from anydiff.paths import VPLinear
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.ddim import DDIM, DDPM
from anydiff.states import StateSpec

PATH = VPLinear()
SPEC = StateSpec.single((2,))


def ring() -> GaussianMixtureOracle:
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixtureOracle(PATH, torch.stack([angle.cos(), angle.sin()], 1), 0.1, torch.arange(1.0, 9.0))


def test_all_times_are_the_sampler_itself():
    plan = build_plan(DDPM(), PATH, nodes_of(PATH, range(1000))[:-1], "stop")
    assert plan.nodes == pytest.approx(compile_plan("ddpm", PATH, 999, "time", "stop").nodes, abs=1e-14)
    betas = [1 - (PATH.alpha(t) / PATH.alpha(s)) ** 2 for t, s in zip(plan.nodes, plan.nodes[1:], strict=False)]
    assert 0 < min(betas) < max(betas) <= 1
    assert math.prod(1 - beta for beta in betas) == pytest.approx((PATH.alpha(1.0) / PATH.alpha(1e-3)) ** 2, rel=1e-10)


def test_the_network_is_asked_at_the_times_themselves():
    oracle, indices = Counting(ring()), (64, 120, 217, 439)
    method = AutoDiffusion()
    values = {"times": np.array(nodes_of(PATH, indices))}
    request = Setting(nfe=(4,)).asked(range(8), ())
    Trials(oracle, SPEC, request).run(method.plan(values, PATH, 4), method.start(values))
    assert [t for t, _ in oracle.calls] == pytest.approx([time_of(PATH, i) for i in reversed(indices)])


def test_mutations_and_crossings_are_sets_of_the_same_size():
    space, rng = Grids(PATH, 6), np.random.default_rng(0)
    pool = list(space.first())
    assert len(set(pool)) > 40
    for _ in range(500):
        one, other = (pool[int(rng.integers(len(pool)))] for _ in range(2))
        child = space.mutated(space.crossed(one, other, rng), rng)
        assert len(set(child)) == 6
        assert child == tuple(sorted(child))
        assert 0 <= child[0] < child[-1] < 1000
        pool.append(child)
    assert space.changed(pool[3], rng, 0.0) == pool[3]
    assert uniform(4) == (0, 250, 500, 750)
    assert uniform(6) == (0, 167, 334, 501, 668, 835)


def test_one_step_finds_what_a_scan_finds():
    """x ~ N(0, I) at index c, one step to the clean sample: the Fréchet distance to N(m, c²) has a closed form."""
    mean, deviation = torch.tensor([0.4, -0.2], dtype=torch.float64), 0.5
    oracle = GaussianOracle(PATH, mean, torch.full((2,), deviation**2, dtype=torch.float64))

    def distance(index: int) -> float:
        nodes = nodes_of(PATH, (index,))
        plan = build_plan(DDIM(), PATH, nodes)
        ends = [execute(plan, oracle, torch.full((1, 2), v, dtype=torch.float64))[0] for v in (0.0, 1.0)]
        slope = ends[1] - ends[0]
        return float((ends[0] - mean).square().sum() + (slope.abs() - deviation).square().sum())

    scanned = min(range(0, 1000, 3), key=distance)
    found = search_grid(Grids(PATH, 1), lambda one: distance(one[0]), 150)
    assert found[0][0] <= distance(scanned) * 1.2 + 1e-6
    assert found == search_grid(Grids(PATH, 1), lambda one: distance(one[0]), 150)
    assert len(found) <= 60 + 150


SETTING = Setting(nfe=(4,), count=128, fresh=256, seed=1)


def test_fresh_noises_decide_by_the_law():
    method = AutoDiffusion(evaluations=60, on="time")
    artefact = calibrate(ring(), (2,), method, SETTING, {"name": "ring"})
    entry = artefact.entry(4, "")
    assert not entry.dropped
    assert entry.ratio[2] < 0.5
    assert len(entry.values["indices"]) == 4
    again = calibrate(ring(), (2,), method, SETTING, {"name": "ring"})
    assert again.entries[0].values["indices"].tolist() == entry.values["indices"].tolist()
    one = Trials(ring(), SPEC, SETTING.asked(range(128), ()))
    states = [one.run(method.plan(entry.values, PATH, 4), method.start(entry.values)) for _ in range(2)]
    assert torch.equal(*states)
    assert frechet(states[0], one.reference()[1]) == pytest.approx(entry.search[0], rel=1e-3)
    assert frechet_distance(states[0], states[0]) == pytest.approx(0, abs=1e-12)


def test_bad_input():
    with pytest.raises(AnydiffError, match="1001 steps are asked for"):
        Grids(PATH, 1001)
    with pytest.raises(AnydiffError, match="evaluations is 0"):
        AutoDiffusion(evaluations=0)
    with pytest.raises(AnydiffError, match="unknown solver 'ddimm'"):
        calibrate(ring(), (2,), AutoDiffusion(base="ddimm"), SETTING, {"name": "ring"})
