"""Ensembles: the layout, and scores against closed forms and against scoringrules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.metrics import SampleSet
from anydiff.metrics import ensembles as e
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL, Conditioning, standard_normal
from anydiff.testing.points import Points

CARDS = ["crps", "crps-fair", "ensemble-rmse", "spread-skill", "rank-histogram", "coverage-error"]


def normal(seed, *shape):
    return torch.from_numpy(standard_normal(seed, [0], 0, "test", shape)[0])


def test_sample_i_is_member_i_over_n_of_case_i_mod_n():
    states = torch.arange(12.0).reshape(12, 1)
    grouped = e.members_per_case(states, 4)
    assert grouped.shape == (4, 3, 1)
    assert grouped[1, :, 0].tolist() == [1, 5, 9]
    repeated = e.repeat_cases(Conditioning({"a": torch.arange(4), "b": torch.arange(8.0).reshape(4, 2)}), 3).given
    assert repeated["a"].tolist() == [0, 1, 2, 3] * 3
    assert torch.equal(repeated["b"][5], torch.tensor([2.0, 3.0]))
    with pytest.raises(AnydiffError, match="no whole number of members for 5 cases"):
        e.members_per_case(states, 5)


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.0, 1e6]))
def test_crps_is_that_of_scoringrules(seed, members, offset):
    x, y = normal(seed, 5, members, 3) + offset, normal(seed + 1, 5, 3) + offset
    for estimator, theirs in (("standard", "nrg"), ("fair", "fair")):
        ours = e.crps(x, y, estimator)
        if members == 1 and estimator == "fair":
            expected = (x[:, 0] - y).abs().numpy()  # 0/0 there
        else:
            # Theirs loses digits to a large offset, so it is given the differences.
            expected = scoringrules.crps_ensemble((y - y).numpy(), (x - y[:, None]).numpy(), m_axis=1, estimator=theirs)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_crps_of_one_member_is_the_distance_and_of_many_that_of_the_law():
    y = torch.tensor([0.5, -2.0])
    assert torch.equal(e.crps(y[:, None] + 2, y), torch.full((2,), 2.0, dtype=torch.float64))
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(200000, dtype=torch.float64) + 0.5) / 200000)
    value = float(e.crps(quantiles[None], torch.zeros(1)))
    assert value == pytest.approx(0.233695, abs=2e-6)


def test_the_fair_estimator_does_not_depend_on_the_number_of_members_and_the_standard_one_does():
    cases = 40000
    fair, standard = [], []
    for members in (2, 5, 31):
        x, y = normal(members, cases, members), normal(100, cases)
        fair.append(float(e.crps(x, y, "fair").mean()))
        standard.append(float(e.crps(x, y).mean()))
    # E = E|X - Y|/2 = 1/sqrt(pi); the standard estimator adds E|X - X'|/(2 m).
    assert fair == pytest.approx([1 / math.sqrt(math.pi)] * 3, abs=0.01)
    assert standard == pytest.approx([(1 + 1 / m) / math.sqrt(math.pi) for m in (2, 5, 31)], abs=0.01)
    with pytest.raises(UnknownNameError, match="fair"):
        e.crps(x, y, "faire")


@pytest.mark.parametrize("members", [2, 7, 40])
def test_a_calibrated_ensemble_is_judged_calibrated(members):
    x, y = normal(1, 20000, members, 2), normal(2, 20000, 2)
    assert e.spread_skill_ratio(x, y) == pytest.approx(1.0, abs=0.01)
    histogram = e.rank_histogram(x, y)
    assert histogram.sum() == pytest.approx(1.0)
    assert histogram.tolist() == pytest.approx([1 / (members + 1)] * (members + 1), abs=0.01)
    assert e.outer_bins(histogram) == pytest.approx(1.0, abs=0.06)
    if members == 40:
        assert e.coverage(x, y, 0.9) == pytest.approx(0.9, abs=0.005)
    assert e.outer_bins(e.rank_histogram(x / 4, y)) > 1.3
    assert e.spread_skill_ratio(x / 4, y) < 0.5


def test_ties_are_shared_out_as_random_breaking_would_on_average():
    x = torch.tensor([[0.0, 1.0, 1.0, 3.0]])
    assert e.rank_histogram(x, torch.tensor([1.0])).tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])
    assert e.rank_histogram(x, torch.tensor([9.0])).tolist() == [0, 0, 0, 0, 1]
    assert e.rank_histogram(torch.zeros(3, 4), torch.zeros(3)).tolist() == pytest.approx([0.2] * 5)


def test_weights_are_those_of_the_entries():
    x, y = normal(3, 6, 4, 2, 3), normal(4, 6, 2, 3)
    weights = torch.tensor([[1.0], [0.0]])
    whole = e.root_mean_squared_error(x[..., :1, :], y[..., :1, :])
    assert e.root_mean_squared_error(x, y, weights) == pytest.approx(whole)
    assert e.spread_skill_ratio(x, y, weights) == pytest.approx(e.spread_skill_ratio(x[..., :1, :], y[..., :1, :]))
    assert e.coverage(x, y, 0.5, weights) == pytest.approx(e.coverage(x[..., :1, :], y[..., :1, :], 0.5))
    with pytest.raises(AnydiffError, match="level is"):
        e.coverage(x, y, 1.5)
    with pytest.raises(AnydiffError, match="must be"):
        e.crps(x, y[:5])


def test_metrics_group_members_by_case_and_leave_an_incomplete_last_member_out():
    domain = Points()
    truth = SampleSet(normal(5, 10, 2).float(), UNCONDITIONAL, domain)
    states = normal(6, 35, 2).float()
    metric = registry().build("metrics", "crps-fair")
    value = metric.compute(SampleSet(states, UNCONDITIONAL, domain), truth)
    expected = e.crps(e.members_per_case(states[:30], 10), truth.states, "fair").mean()
    assert value == pytest.approx(float(expected))
    few = metric.compute(SampleSet(states[:4], UNCONDITIONAL, domain), truth)
    assert few == pytest.approx(float((states[:4] - truth.states[:4]).abs().mean()), rel=1e-6)


@pytest.mark.parametrize("name", CARDS)
def test_cards_name_the_estimator_and_perfect_members_are_ideal(name):
    metric = registry().build("metrics", name)
    assert metric.card.name == name
    assert metric.card.version != "1"
    truth = SampleSet(normal(7, 8, 2).float(), UNCONDITIONAL, Points())
    members = SampleSet(truth.states.repeat(5, 1), UNCONDITIONAL, Points())
    expected = 0.1 if name == "coverage-error" else 0.0
    assert metric.compute(members, truth) == pytest.approx(expected, abs=1e-6)
    if name == "spread-skill":
        assert metric.compute(SampleSet(members.states + 1, UNCONDITIONAL, Points()), truth) == 1.0
    with pytest.raises(AnydiffError, match="level"):
        e.CoverageError(level=0)
