"""EMOS: its closed forms, its fit on a law that is known, and what it is worth beside the simulator's ensembles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from anydiff.errors import AnydiffError
from anydiff.metrics import crps, repeat_cases
from anydiff_weather.baselines import full_ensemble, perfect_ensemble, seeds_alone
from anydiff_weather.data import Era5Members, Lorenz96Cases
from anydiff_weather.domain import Weather
from anydiff_weather.emos import Emos, emos, normal_crps
from anydiff_weather.rain import Rain


@pytest.mark.parametrize("floor", [None, -0.4, 0.7])
@pytest.mark.parametrize(("mean", "deviation", "truth"), [(0.3, 1.2, 0.9), (-1.0, 0.5, 0.7), (2.0, 0.3, 3.0)])
def test_the_closed_form_is_the_integral(mean, deviation, truth, floor):
    def squared(x: float) -> float:
        below = 0.0 if floor is not None and x < floor else norm.cdf(x, mean, deviation)
        return (below - (x >= truth)) ** 2

    points = [truth] if floor is None else [truth, floor]
    expected = quad(squared, -9, 12, points=points, limit=200)[0]
    found = normal_crps(*(np.array([value]) for value in (mean, deviation, truth)), floor)
    assert float(found[0]) == pytest.approx(expected, abs=1e-6)


def _world(floor: float | None, cases: int = 6000):
    """Members around a signal, biased and too narrow, and a truth of a law that EMOS can hold exactly."""
    rng = np.random.default_rng(0)
    signal, width = rng.normal(size=(cases, 1, 2, 1, 3)), rng.uniform(0.3, 1.5, size=(cases, 1, 2, 1, 3))
    members = signal + width * rng.normal(size=(cases, 5, 2, 1, 3))
    deviation = np.sqrt(0.3**2 + 0.8**2 * members.var(1, ddof=1))
    truth = 0.5 + 0.7 * members.mean(1) + deviation * rng.normal(size=(cases, 2, 1, 3))
    return members, truth if floor is None else np.maximum(truth, floor)


@pytest.mark.parametrize("floor", [None, 0.2])
def test_the_fit_finds_the_law_that_made_the_truth(floor):
    members, truth = _world(floor)
    found = Emos.fit(members, truth, floor)
    for row in found.coefficients:
        np.testing.assert_allclose(np.abs(row), [0.5, 0.7, 0.3, 0.8], atol=0.06)


def test_a_floor_that_the_fit_is_not_told_costs():
    members, truth = _world(0.2)
    mean, deviation = Emos.fit(members, truth, 0.2).law(members)
    told = normal_crps(mean, deviation, truth, 0.2).mean()
    mean, deviation = Emos.fit(members, truth).law(members)
    assert told < normal_crps(mean, deviation, truth).mean() - 0.01
    drawn = Emos.fit(members, truth, 0.2).draw(members, np.random.default_rng(1).normal(size=truth.shape))
    assert drawn.min() == 0.2
    assert (drawn == 0.2).mean() == pytest.approx((truth == 0.2).mean(), abs=0.02)


def test_only_rain_has_a_floor():
    assert Weather().floor is None
    assert Rain.floor == pytest.approx(-2.0 / 1.9)


def test_the_simulators_ensembles_stand_in_order():
    """The perfect ensemble is the ceiling of both tasks; EMOS is ahead of the seeds, and corrects the biased system."""
    members, cases = 16, 32
    scores = {}
    for system in ("perfect", "biased"):
        train, test = Lorenz96Cases("train", system), Lorenz96Cases("test", system)
        truth, condition = test.batch(range(cases))
        repeated = repeat_cases(condition, members)
        for baseline in (seeds_alone, full_ensemble, perfect_ensemble, emos):
            states = baseline(train, repeated, members * cases, 0)
            ensemble = states.reshape(members, cases, *states.shape[1:]).transpose(0, 1)
            scores[system, baseline.__name__] = float(crps(ensemble, truth).mean())
    assert scores["perfect", "perfect_ensemble"] == scores["perfect", "full_ensemble"]
    assert scores["biased", "perfect_ensemble"] == scores["perfect", "perfect_ensemble"]
    for system in ("perfect", "biased"):
        assert scores[system, "perfect_ensemble"] < scores[system, "emos"] < scores[system, "seeds_alone"]
    assert scores["biased", "emos"] < 0.8 * scores["biased", "full_ensemble"]


def test_draws_are_the_same_for_one_seed_and_others_for_another():
    train, test = Lorenz96Cases("train"), Lorenz96Cases("test")
    _, condition = test.batch(range(4))
    one, again, other = (emos(train, condition, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_data_without_truth_and_single_members_are_refused():
    with pytest.raises(AnydiffError, match="no truth"):
        emos(Era5Members(), Era5Members("test").batch([0])[1], 1, 0)
    with pytest.raises(AnydiffError, match="at least 2 members"):
        Emos.fit(np.zeros((3, 1, 1, 1, 2)), np.zeros((3, 1, 1, 2)))
