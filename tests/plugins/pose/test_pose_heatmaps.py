"""Heatmaps: exact encoding, sub-pixel decoding, mirrors and the aggregation of estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_pose.heatmaps import aggregate, decode_heatmaps, draw_heatmaps, mean_keypoints, mirror_heatmaps
from anydiff_pose.skeletons import load_skeleton

ROWS, COLUMNS, STRIDE = 16, 12, 4


def heat(points, sigma=1.25, labelled=None):
    points = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 1, 2)
    flags = torch.ones(len(points), 1, dtype=torch.bool) if labelled is None else labelled
    return draw_heatmaps(points, flags, ROWS, COLUMNS, STRIDE, sigma)


def points_inside(count=200, margin=0.0):
    generator = np.random.default_rng(0)
    return generator.uniform(margin, 1 - margin, (count, 2)) * (COLUMNS * STRIDE, ROWS * STRIDE)


def test_a_cell_centre_is_one_and_the_gaussian_falls_off_as_written():
    centre = [(5 + 0.5) * STRIDE, (7 + 0.5) * STRIDE]
    drawn = heat([centre], sigma=1.5)[0, 0]
    assert drawn[7, 5] == 1
    assert drawn[9, 4].item() == pytest.approx(np.exp(-(2**2 + 1) / (2 * 1.5**2)))


@pytest.mark.parametrize("sigma", [1.0, 1.25, 2.0])
def test_dark_is_exact_for_gaussians_wherever_they_are_in_the_frame(sigma):
    points = points_inside()
    found, scores = decode_heatmaps(heat(points, sigma), STRIDE, "dark")
    assert np.abs(found[:, 0] - points).max() / STRIDE < 1e-6
    assert scores.min() > 0.7


def test_quarter_shift_is_within_a_quarter_cell_and_argmax_within_half():
    points = points_inside(margin=0.1)
    for method, bound in (("quarter", 0.25), ("argmax", 0.5)):
        found, _ = decode_heatmaps(heat(points), STRIDE, method)
        assert np.abs(found[:, 0] - points).max() / STRIDE <= bound + 1e-9, method


def test_dark_in_float32_states_is_within_a_twentieth_of_a_cell():
    points = points_inside()
    state = (2 * heat(points) - 1).float()
    found, _ = decode_heatmaps((state.double() + 1) / 2, STRIDE, "dark")
    assert np.abs(found[:, 0] - points).max() / STRIDE < 0.05


def test_an_empty_heatmap_has_no_score():
    found, scores = decode_heatmaps(heat([[10, 10]], labelled=torch.zeros(1, 1, dtype=torch.bool)), STRIDE)
    assert scores.tolist() == [[0.0]]
    assert found.tolist() == [[[0.0, 0.0]]]


def test_mirroring_twice_is_nothing_and_once_exchanges_the_sides():
    skeleton = load_skeleton("humanoid15")
    maps = torch.rand(2, len(skeleton), ROWS, COLUMNS)
    once = mirror_heatmaps(maps, skeleton.mirror)
    assert torch.equal(mirror_heatmaps(once, skeleton.mirror), maps)
    left, right = skeleton.index("left_wrist"), skeleton.index("right_wrist")
    assert torch.equal(once[:, left], maps[:, right].flip(-1))


@given(st.permutations(list(range(4))), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_mean_does_not_depend_on_the_order_of_estimates(order, seed):
    estimates = torch.rand(2, 4, 3, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert torch.equal(aggregate(estimates), aggregate(estimates[:, order]))


@pytest.mark.parametrize("reduction", ["mean-heatmap", "medoid"])
def test_identical_estimates_are_a_single_one(reduction):
    one = torch.rand(3, 1, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(aggregate(one.expand(-1, 5, -1, -1, -1), reduction), one[:, 0])
    points, scores = mean_keypoints(one.expand(-1, 5, -1, -1, -1), STRIDE)
    alone = decode_heatmaps(one[:, 0], STRIDE)
    np.testing.assert_allclose(points, alone[0])
    np.testing.assert_allclose(scores, alone[1])


def test_two_modes_are_voted_on_by_heatmaps_and_missed_by_mean_coordinates():
    here, there = [8.0, 8.0], [40.0, 56.0]
    votes = heat([here, here, there]).reshape(1, 3, 1, ROWS, COLUMNS)
    by_heat, _ = decode_heatmaps(aggregate(votes), STRIDE)
    by_medoid, _ = decode_heatmaps(aggregate(votes, "medoid", STRIDE), STRIDE)
    between, _ = mean_keypoints(votes, STRIDE)
    np.testing.assert_allclose(by_heat[0, 0], here, atol=1e-3)
    np.testing.assert_allclose(by_medoid[0, 0], here, atol=1e-3)
    assert np.linalg.norm(between[0, 0] - here) > 15
    assert np.linalg.norm(between[0, 0] - there) > 15


def test_bad_input():
    with pytest.raises(UnknownNameError, match="did you mean 'dark'"):
        decode_heatmaps(heat([[1, 1]]), STRIDE, "darc")
    with pytest.raises(UnknownNameError, match="reduction"):
        aggregate(torch.zeros(1, 2, 1, 4, 4), "median")
    with pytest.raises(AnydiffError, match=r"heatmaps have shape \(1, 2, 2\)"):
        decode_heatmaps(torch.zeros(1, 2, 2), STRIDE)
