"""Noise of one's own, operations of a plan and one start for all samples: what a request may bring."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.denoisers.wrappers import KnownEntries
from anydiff.denoisers.wrappers import known as known_entries
from anydiff.errors import AnydiffError
from anydiff.inverse import DDNM, Problem, RedDiff
from anydiff.inverse.operators import Mask
from anydiff.paths import VPCosine
from anydiff.samplers import AdaptiveODE, sample
from anydiff.solvers import compile_plan
from anydiff.solvers.walk import Operations, Walk, compile_walk
from anydiff.states import Conditioning, Known, NoiseSource, StateSpec

ORACLE = GaussianOracle(VPCosine(), torch.zeros(3), torch.eye(3) + 0.3)
OPTIONS = {"nfe": 6, "dtype": torch.float64}


class Replay:
    """Draws that were kept, by number of the draw."""

    def __init__(self, seed, sign=1.0):
        self.source, self.sign, self.asked = NoiseSource(StateSpec.single((3,)), seed), sign, set()

    def draw(self, samples, draw, dtype, device):
        self.asked.add(draw)
        return self.sign * self.source.draw(samples, draw, dtype, device)


@pytest.mark.parametrize("solver", ["ddpm", "euler-maruyama"])
def test_a_replay_draws_the_prior_and_all_noise(solver):
    plain = sample(ORACLE, (3,), 4, solver=solver, seed=7, **OPTIONS)
    replay = Replay(7)
    assert torch.equal(sample(ORACLE, (3,), 4, solver=solver, noise=replay, **OPTIONS), plain)
    assert len(replay.asked) > 3
    mirrored = sample(ORACLE, (3,), 4, solver=solver, noise=Replay(7, -1.0), **OPTIONS)
    assert torch.allclose(mirrored, -plain, atol=1e-12)  # a linear plan of a law that is even
    cold = sample(ORACLE, (3,), 4, solver=solver, noise=Replay(7), temperature=0.5, **OPTIONS)
    assert torch.allclose(cold, plain / 2, atol=1e-12)


def test_one_start_serves_all_samples():
    row = torch.randn(1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plan = compile_plan("ddpm", VPCosine(), 4, [0.5, 0.3, 0.2, 0.1, 0.05])
    found = sample(ORACLE, (3,), 5, solver=plan, start=row, dtype=torch.float64, batch_size=2)
    each = sample(ORACLE, (3,), 5, solver=plan, start=row.expand(5, 3), dtype=torch.float64, batch_size=2)
    assert torch.equal(found, each)
    assert not torch.equal(found[0], found[1])
    with pytest.raises(AnydiffError, match=r"start has \(2, 3\) where 5 rows are needed"):
        sample(ORACLE, (3,), 5, solver=plan, start=row.expand(2, 3))


def test_operations_come_with_the_request():
    plan = compile_walk(Walk(operations=Operations(correct="twice")), VPCosine(), 3)
    found = sample(
        ORACLE, (3,), 2, solver=plan, operations={"twice": lambda data, *, t, limit: 2 * data}, dtype=torch.float64
    )
    plain = sample(ORACLE, (3,), 2, solver=compile_walk(Walk(), VPCosine(), 3), dtype=torch.float64)
    assert not torch.allclose(found, plain)
    with pytest.raises(AnydiffError, match=r"operations gives 'once', but the plan of .* names 'twice'"):
        sample(ORACLE, (3,), 2, solver=plan, operations={"once": lambda data: data})
    with pytest.raises(AnydiffError, match="names no operation"):
        sample(ORACLE, (3,), 2, nfe=3, operations={"once": lambda data: data})
    with pytest.raises(AnydiffError, match="operations are for plans, but AdaptiveODE runs none"):
        sample(ORACLE, (3,), 2, solver=AdaptiveODE(), operations={"once": lambda data: data})


def test_a_method_takes_noise_and_start_where_it_has_any():
    given = Problem(Mask((3,), [True, False, False]), torch.tensor([0.5, 0.0, 0.0]), 0.1)
    plain = DDNM().solve(given, ORACLE, (3,), 3, nfe=5, seed=4)
    assert torch.equal(DDNM().solve(given, ORACLE, (3,), 3, nfe=5, noise=Replay(4)), plain)
    begun = DDNM().solve(given, ORACLE, (3,), 3, nfe=5, seed=4, start=torch.zeros(1, 3))
    assert not torch.equal(begun, plain)
    with pytest.raises(AnydiffError, match="start is given, but the method RedDiff begins at what was measured"):
        RedDiff().solve(given, ORACLE, (3,), 3, nfe=5, start=torch.zeros(1, 3))


@pytest.mark.parametrize("layers", [None, KnownEntries()])
def test_known_values_are_looked_at_once(monkeypatch, layers):
    looks, inner = [], known_entries.require_finite
    monkeypatch.setattr(known_entries, "require_finite", lambda known: looks.append("call") or inner(known))
    values = torch.tensor([[0.5, float("nan"), float("nan")]]).expand(4, 3)
    condition = Conditioning(known=Known(values, torch.tensor([True, False, False]).expand(4, 3)))
    monkeypatch.setattr(
        "anydiff.samplers.sampler.require_finite", lambda known: looks.append("request") or inner(known)
    )
    with pytest.warns(UserWarning, match="known entries are kept"):
        sample(ORACLE, (3,), 4, nfe=8, guidance=layers, condition=condition, batch_size=2)
    assert looks == ["request"]
    assert KnownEntries() == KnownEntries().for_run([0])
    bad = Conditioning(known=Known(torch.full((1, 3), torch.nan), torch.ones(1, 3, dtype=torch.bool)))
    with pytest.raises(AnydiffError, match="not finite inside known_mask"):
        KnownEntries()(ORACLE)(torch.zeros(1, 3), 0.5, bad)  # without a run every call looks
