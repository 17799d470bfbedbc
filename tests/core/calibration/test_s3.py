"""The evolutionary search and S³: what a search promises, whatever it finds."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from anydiff.calibration import S3, Artefact, Setting, calibrate, plan_of_entry
from anydiff.calibration.s3 import _Schedules, as_arrays, of_arrays
from anydiff.calibration.search import Evolution, Space, evolve
from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.paths import VPLinear
from anydiff.solvers import build_plan, compile_plan
from anydiff.states import Conditioning

PATH = VPLinear()


class Numbers(Space[tuple[int, ...]]):
    """Vectors of three numbers below 100."""

    def first(self):
        return [(50, 50, 50), (50, 50, 50), (10, 90, 20)]

    def crossed(self, one, other, rng):
        return tuple(pair[int(rng.integers(2))] for pair in zip(one, other, strict=True))

    def mutated(self, one, rng):
        return tuple(int(np.clip(each + rng.integers(-3, 4), 0, 99)) for each in one)

    def key(self, one):
        return one


def distance(one):
    return float(sum((a - b) ** 2 for a, b in zip(one, (30, 70, 30), strict=True)))


def test_a_search_is_monotone_and_the_same_again():
    told, scored = [], []

    def score(one):
        scored.append(one)
        return distance(one) if one[0] != 49 else float("nan")

    how = Evolution(300, 5, seed=2)
    first = evolve(Numbers(), score, how, lambda done, best: told.append(best))
    assert all(b <= a for a, b in itertools.pairwise(told))
    assert len(scored) == len(set(scored)) <= 302
    assert first[0][0] < 10
    assert first[-1][0] == float("inf") or all(one[0] != 49 for one in scored)
    assert evolve(Numbers(), distance, Evolution(300, 5, seed=3))[0] == evolve(Numbers(), distance,
                                                                              Evolution(300, 5, seed=3))[0]  # fmt: skip


def target() -> GaussianMixtureOracle:
    rng = np.random.default_rng(5)
    return GaussianMixtureOracle(PATH, torch.from_numpy(0.5 * rng.standard_normal((10, 16))), 0.3,
                                 torch.from_numpy(rng.dirichlet(np.full(10, 3.0))), torch.arange(10) // 5)  # fmt: skip


METHOD, SETTING = S3(evaluations=60), Setting(nfe=(4,), count=16, fresh=64, seed=3)


@functools.cache
def made() -> Artefact:
    return calibrate(target(), (16,), METHOD, SETTING, {"name": "t16"})


def test_the_search_ends_no_worse_than_the_known_solvers(tmp_path):
    entry = made().entry(4, "")
    assert entry.search[0] < 0.9 * entry.search[1]
    again = calibrate(target(), (16,), METHOD, SETTING, {"name": "t16"}, out=tmp_path / "a.safetensors")
    loaded = Artefact.load(tmp_path / "a.safetensors")
    for one in (again, loaded):
        assert {k: v.tobytes() for k, v in one.entries[0].values.items()} == {
            k: v.tobytes() for k, v in entry.values.items()
        }
        assert (one.entries[0].search, one.entries[0].calls) == (entry.search, entry.calls)


def test_every_mutation_and_crossing_is_a_schedule_of_the_same_calls():
    space, rng = _Schedules(PATH, 5, (0.0,) * 3), np.random.default_rng(0)
    pool = list(space.first())
    assert len({space.key(one) for one in pool}) > 100
    for _ in range(300):
        one, other = (pool[int(rng.integers(len(pool)))] for _ in range(2))
        child = space.mutated(space.crossed(one, other, rng), rng)
        pool.append(child)
        assert child.calls == 5
        assert (child.times[0], child.times[-1]) == (PATH.t_start, PATH.t_end)
        assert of_arrays(as_arrays(child)) == child
    plan = build_plan(child, PATH, child.times)
    assert plan.nfe == 5


def test_the_means_of_pictures_keep_their_shape():
    own = replace(_Schedules(PATH, 3, ((0.1, 0.2),)).first()[0], first="mean", mean=((0.1, 0.2),))
    again = of_arrays({name: value for name, value in as_arrays(own).items()})
    assert again == own
    assert build_plan(again, PATH, own.times).values["mean"].shape == (1, 2)


def test_the_baseline_is_guided_as_samplers_guide_it():
    layers = [ClassifierFree(7.5)]
    setting = replace(SETTING, guidances=(layers,),
                      condition=lambda n: Conditioning({"label": torch.zeros(n, dtype=torch.long)}))  # fmt: skip
    artefact = calibrate(target(), (16,), replace(METHOD, evaluations=1), setting, {"name": "t16"})
    artefact.entries[0] = replace(artefact.entries[0], values={})
    plan = plan_of_entry(artefact, METHOD, PATH, 4, layers)
    assert plan.instructions == compile_plan("unipc-2-time", PATH, 4, "learned").instructions


def test_bad_input():
    with pytest.raises(AnydiffError, match="unknown objective 'fid'"):
        S3(objective="fid")
    with pytest.raises(AnydiffError, match="evaluations is 0"):
        S3(evaluations=0)
    with pytest.raises(AnydiffError, match="limit of 200 network calls"):
        calibrate(target(), (16,), METHOD, replace(SETTING, calls=200), {"name": "t16"})
