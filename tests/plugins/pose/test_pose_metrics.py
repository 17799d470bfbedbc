"""Metrics against values worked out by hand, the rules of PoseTrack, and pycocotools itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.states import Conditioning
from anydiff_pose.data import HumanoidVideo
from anydiff_pose.metrics import (
    PCK,
    OKSMeanAveragePrecision,
    PCKh,
    PCKhOccluded,
    correct_share,
    judge,
    oks_average_precision,
    per_joint,
)
from anydiff_pose.posetrack import Frame, PoseTrackMeanAveragePrecision, grouped, posetrack_average_precision
from anydiff_pose.skeletons import load_skeleton

JOINTS = 4


def people(count=3, seed=0):
    return np.random.default_rng(seed).uniform(0, 100, (count, JOINTS, 2))


def frame(truth, found, scores=None, head=10.0, labelled=None):
    labelled = np.ones(truth.shape[:2], dtype=bool) if labelled is None else labelled
    scores = np.full(found.shape[:2], 0.9) if scores is None else scores
    return Frame(truth, labelled, np.full(len(truth), head), found, scores)


def reference(size=24):
    data = HumanoidVideo("test", size=size)
    states, condition = data.batch(range(size))
    return SampleSet(states, condition, data.domain)


def moved(real, pixels):
    points = real.condition.truth["keypoints"] + torch.tensor(pixels, dtype=torch.float64)
    return SampleSet(real.domain.states(points, real.condition.truth["visibility"] > 0), Conditioning(), real.domain)


# PCK


def test_the_share_counts_errors_up_to_the_bound_and_only_counted_joints():
    errors = np.array([[1.0, 5.0, 5.1], [0.0, 2.0, 9.0]])
    counted = np.array([[True, True, True], [True, False, True]])
    assert correct_share(errors, np.array([10.0, 4.0]), 0.5, counted) == pytest.approx(3 / 5)
    with pytest.raises(AnydiffError, match="no joint"):
        correct_share(errors, np.array([10.0, 4.0]), 0.5, np.zeros((2, 3), dtype=bool))


@given(st.floats(0.1, 20))
@settings(max_examples=20, deadline=None)
def test_the_share_does_not_depend_on_the_unit(scale):
    errors, counted = np.random.default_rng(1).uniform(0, 10, (5, 4)), np.ones((5, 4), dtype=bool)
    head = np.linspace(4, 12, 5)
    assert correct_share(errors * scale, head * scale, 0.5, counted) == correct_share(errors, head, 0.5, counted)


def test_pckh_steps_from_one_to_zero_at_half_a_head():
    real = reference()
    half = float(real.condition.truth["head_size"].min()) / 2
    assert PCKh().compute(real, real) == 1.0
    assert PCKh().compute(moved(real, (0.9 * half, 0.0)), real) > 0.95
    beyond = float(real.condition.truth["head_size"].max()) * 0.5 + 0.6
    assert PCKh().compute(moved(real, (-beyond, 0.0)), real) < 0.1
    assert PCK().compute(moved(real, (-beyond, 0.0)), real) > PCKh().compute(moved(real, (-beyond, 0.0)), real)


def test_occluded_joints_are_those_hidden_at_the_keyframe():
    real = reference()
    points = real.condition.truth["keypoints"].clone()
    hidden = real.condition.truth["visibility"] == 1
    points[hidden] = (points[hidden] + 24) % 48
    spoilt = SampleSet(real.domain.states(points, torch.ones_like(hidden)), Conditioning(), real.domain)
    assert PCKhOccluded().compute(spoilt, real) < 0.2
    rows = per_joint(judge(spoilt, real))
    seen = [row["visible"] for row in rows.values() if np.isfinite(row["visible"])]
    assert min(seen) == 1.0
    assert set(rows) == set(real.domain.skeleton.joints)


def test_several_estimates_of_a_case_are_aggregated_first():
    real = reference(6)
    good, bad = real.states, moved(real, (12.0, 12.0)).states
    three = SampleSet(torch.cat([good, bad, good]), Conditioning(), real.domain)
    assert PCKh().compute(three, real) == 1.0
    few = SampleSet(good[:4], Conditioning(), real.domain)
    assert PCKh().compute(few, real) == 1.0
    with pytest.raises(AnydiffError, match="no whole number of members"):
        PCKh().compute(SampleSet(three.states[:8], Conditioning(), real.domain), real)


def test_cards_tell_reductions_and_thresholds_apart():
    assert PCKh().card != PCKh(reduction="medoid").card
    assert PCKh().card != PCKh(alpha=0.1).card
    with pytest.raises(AnydiffError, match="alpha is 0"):
        PCKh(alpha=0)


def test_a_written_file_is_judged_as_the_samples_were(tmp_path):
    """AP ranks by score, so scores must survive the way through a file."""
    real = reference(24)
    strength = torch.linspace(0.3, 0.9, 24).flip(0)[:, None, None, None]
    mixed = torch.where(torch.arange(24)[:, None, None, None] % 3 == 0, moved(real, (6.0, 0.0)).states, real.states)
    samples = SampleSet((mixed + 1) * strength - 1, Conditioning(), real.domain)
    real.domain.write(real.domain.decode(samples.states), tmp_path / "poses.json")
    again = SampleSet(real.domain.encode(real.domain.read(tmp_path / "poses.json")), Conditioning(), real.domain)
    for metric in (PCKh(), PCK(), OKSMeanAveragePrecision(), PoseTrackMeanAveragePrecision()):
        value = metric.compute(samples, real)
        assert 0 < value < 1
        assert metric.compute(again, real) == pytest.approx(value, abs=1e-9), metric.card.name


def with_heads(real, sizes):
    truth = {**real.condition.truth, "head_size": sizes}
    return SampleSet(real.states, replace(real.condition, truth=truth), real.domain)


def test_a_person_whose_head_size_nobody_knows_is_neither_right_nor_wrong():
    real = reference(6)
    head = real.condition.truth["head_size"].clone()
    spoilt = moved(real, (10.0, 0.0)).states
    head[:3] = float("nan")
    known = with_heads(real, head)
    samples = SampleSet(torch.cat([spoilt[:3], real.states[3:]]), Conditioning(), real.domain)
    assert PCKh().compute(samples, real) < 0.9
    assert PCKh().compute(samples, known) == 1.0
    assert PoseTrackMeanAveragePrecision().compute(samples, known) == 1.0
    assert per_joint(judge(samples, known))["pelvis"]["all"] == 1.0
    nobody = with_heads(real, head * float("nan"))
    with pytest.raises(AnydiffError, match="whose reference length is known"):
        PCKh().compute(samples, nobody)
    with pytest.raises(AnydiffError, match="nobody's head size is known"):
        PoseTrackMeanAveragePrecision().compute(samples, nobody)


# OKS


def test_oks_by_hand():
    real = reference(12)
    judged = judge(real, real)
    assert oks_average_precision(judged) == pytest.approx(1.0)
    # One distance for all joints so that exp(-d²/(2 area k²)) averages to a chosen number between two thresholds.
    area, k = 900.0, np.array(judged.skeleton.sigmas)
    flags = np.full((1, 15), 2)
    truth = np.random.default_rng(0).uniform(0, 40, (1, 15, 2))
    for wanted, expected in ((0.97, 1.0), (0.77, 0.6), (0.49, 0.0)):
        low, high = 0.0, 50.0
        for _ in range(60):
            middle = (low + high) / 2
            # pycocotools takes variances (2 k)² and e = d²/(vars)/(area + eps)/2
            oks = np.exp(-(middle**2) / ((2 * k) ** 2) / area / 2).mean()
            low, high = (middle, high) if oks > wanted else (low, middle)
        found = truth + np.array([low, 0.0])
        one = type(judged)(
            found, np.ones((1, 15)), truth, flags, np.array([6.0]), np.array([area]), np.array([40.0]), judged.skeleton
        )
        assert oks_average_precision(one) == pytest.approx(expected, abs=1e-6), wanted


# PoseTrack


def test_perfect_people_have_everything_and_a_shift_beyond_the_bound_nothing():
    truth = people()
    assert posetrack_average_precision([frame(truth, truth)] * 3).tolist() == [1.0] * JOINTS
    shifted = truth + np.array([5.1, 0.0])
    assert posetrack_average_precision([frame(truth, shifted)]).tolist() == [0.0] * JOINTS
    assert posetrack_average_precision([frame(truth, truth + np.array([4.9, 0.0]))]).tolist() == [1.0] * JOINTS


def test_duplicates_with_lower_scores_cost_nothing_and_with_higher_ones_do():
    truth = people()
    twice = np.concatenate([truth, truth + 0.1])
    scores = np.repeat([[0.9]] * 3 + [[0.2]] * 3, JOINTS, axis=1)
    assert posetrack_average_precision([frame(truth, twice, scores)]).tolist() == [1.0] * JOINTS
    assert max(posetrack_average_precision([frame(truth, twice, scores[::-1])])) < 1.0


def test_average_precision_by_hand():
    # One joint: scores .9 right, .8 wrong, .7 right of two people in two frames; envelope 1 up to 1/2, then 2/3.
    head, far = 10.0, np.array([[[500.0, 500.0]]])
    one, two = np.array([[[0.0, 0.0]]]), np.array([[[50.0, 0.0]]])
    first = frame(one, np.concatenate([one, far]), np.array([[0.9], [0.8]]), head)
    second = frame(two, two, np.array([[0.7]]), head)
    assert posetrack_average_precision([first, second])[0] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_equal_scores_enter_together_so_that_order_means_nothing():
    one, far = np.array([[[0.0, 0.0]]]), np.array([[[500.0, 500.0]]])
    for found in (np.concatenate([one, far]), np.concatenate([far, one])):
        assert posetrack_average_precision([frame(one, found)])[0] == pytest.approx(0.5)


def test_joints_that_nobody_labelled_are_neither_right_nor_wrong():
    truth = people(1)
    labelled = np.array([[True, True, True, False]])
    wrong = truth.copy()
    wrong[0, 3] += 1000
    found = posetrack_average_precision([frame(truth, wrong, labelled=labelled)])
    assert found[:3].tolist() == [1.0] * 3
    assert np.isnan(found[3])


def test_an_unlabelled_joint_of_one_frame_is_no_false_positive_of_another():
    truth = people(1)
    wrong = truth.copy()
    wrong[0, 3] += 1000
    hidden = frame(truth, wrong, np.full((1, JOINTS), 0.99), labelled=np.array([[True, True, True, False]]))
    seen = frame(truth, truth, np.full((1, JOINTS), 0.5))
    assert posetrack_average_precision([hidden, seen]).tolist() == [1.0] * JOINTS


def test_each_truth_takes_its_best_prediction():
    truth = people(1)
    half = truth.copy()
    half[0, :2] += 500
    found = np.concatenate([half, truth])
    scores = np.repeat([[0.5], [0.4]], JOINTS, axis=1)
    # The half-right person has the higher score but is not assigned: all its joints are false positives.
    assert posetrack_average_precision([frame(truth, found, scores)]).tolist() == [0.5] * JOINTS


def test_groups_average_left_and_right():
    skeleton = load_skeleton("humanoid15")
    values = np.arange(15, dtype=float)
    table = grouped(values, skeleton)
    assert table["wrist"] == (values[skeleton.index("left_wrist")] + values[skeleton.index("right_wrist")]) / 2
    assert table["head"] == 0.5
