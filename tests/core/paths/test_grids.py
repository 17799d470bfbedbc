"""Time grids: strictly decreasing, exact ends, finite, for 1 to 1000 steps on every path; formulas; bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from checks import check_grid
from exact import PATHS
from hypothesis import given
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import EDM, GRIDS, Flow, VPLinear, time_grid


@pytest.mark.parametrize("grid", sorted(GRIDS))
@pytest.mark.parametrize("name", sorted(PATHS))
def test_every_grid_on_every_path_from_1_to_1000_steps(name, grid):
    for steps in (1, 2, 3, 5, 10, 97, 1000):
        check_grid(PATHS[name], steps, grid)


@given(st.integers(1, 1000), st.sampled_from(sorted(GRIDS)), st.sampled_from(sorted(set(PATHS) - {"vp-log-snr"})))
def test_any_number_of_steps(steps, grid, name):
    check_grid(PATHS[name], steps, grid)


@pytest.mark.parametrize("grid", sorted(GRIDS))
@pytest.mark.parametrize("path", [VPLinear(t_end=0.0), Flow(t_end=0.0), EDM(t_end=0.0), EDM(t_end=1e-6)])
def test_grids_down_to_clean_data(path, grid):
    for steps in (1, 2, 10, 1000):
        check_grid(path, steps, grid)


def test_formulas():
    path = VPLinear()
    first, last = path.t_start, path.t_end
    share = np.arange(11) / 10
    np.testing.assert_allclose(time_grid(path, 10, "time"), first + (last - first) * share, rtol=1e-14)
    roots = math.sqrt(first) + (math.sqrt(last) - math.sqrt(first)) * share
    np.testing.assert_allclose(time_grid(path, 10, "quadratic"), roots**2, rtol=1e-14)
    log_snr = [path.log_snr(t) for t in time_grid(path, 10, "log-snr")]
    np.testing.assert_allclose(np.diff(log_snr), (path.log_snr(last) - path.log_snr(first)) / 10, rtol=1e-10)


def test_karras_is_equation_5_of_edm():
    high, low, rho = 80.0, 0.002, 7.0
    share = np.arange(18) / 17
    expected = (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    np.testing.assert_allclose(time_grid(EDM(), 17, "karras"), expected, rtol=1e-12)
    vp = VPLinear()
    levels = np.array([vp.sigma(t) / vp.alpha(t) for t in time_grid(vp, 17, "karras")]) ** (1 / rho)
    np.testing.assert_allclose(np.diff(levels), (levels[-1] - levels[0]) / 17, rtol=1e-9)


def test_default_grid_and_custom_list():
    assert time_grid(EDM(), 4) == time_grid(EDM(), 4, "karras")
    assert time_grid(Flow(), 4) == time_grid(Flow(), 4, "time")
    nodes = [0.9, 0.5, 0.1]
    for custom in (nodes, tuple(nodes), np.array(nodes), torch.tensor(nodes, dtype=torch.float64)):
        assert time_grid(VPLinear(), 2, custom) == nodes


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([0.9, 0.5], "2 nodes"),
        ([0.9, 0.5, 0.5], "strictly decreasing"),
        ([0.1, 0.5, 0.9], "strictly decreasing"),
        ([0.9, math.nan, 0.1], "strictly decreasing"),
        ([1.1, 0.5, 0.1], "must stay in"),
        ([0.9, 0.5, -0.1], "must stay in"),
        ([0.9, "x", 0.1], "time grid"),
        (5, "time grid"),
    ],
)
def test_bad_custom_lists(nodes, words):
    with pytest.raises(AnydiffError, match=words):
        time_grid(VPLinear(), 2, nodes)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, "3"])
def test_bad_step_counts(steps):
    with pytest.raises(AnydiffError, match="steps"):
        time_grid(VPLinear(), steps)


def test_misspelt_grid():
    with pytest.raises(UnknownNameError, match="did you mean 'karras'"):
        time_grid(VPLinear(), 3, "karas")
