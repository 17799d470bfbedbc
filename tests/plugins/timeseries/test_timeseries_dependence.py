"""How many following windows depend on a window: those of its series that share a step with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anydiff.recipes import build_dataset, load_recipe
from anydiff_timeseries.data import FrameSeries
from anydiff_timeseries.domain import TimeSeries


@pytest.mark.parametrize(("recipe", "expected"), [("timeseries/traffic", 2), ("timeseries/pm25", 1)])
def test_the_windows_of_the_tasks_overlap(recipe, expected):
    """64 windows of eight days: every three days of half a year, every six days of a year."""
    data = build_dataset(load_recipe(recipe), "test")
    assert len(data) == 64
    assert data.dependence == expected
    starts = [start for _, start in data.chosen]
    assert any(starts[row] + 192 > starts[row + expected] for row in range(64 - expected))
    assert all(starts[row] + 192 <= starts[row + expected + 1] for row in range(63 - expected))


def test_windows_that_do_not_overlap_are_independent_and_so_are_series():
    index = pd.date_range("2020-01-01", periods=400, freq="h")
    table = pd.DataFrame({name: np.sin(np.arange(400.0)) + 2 for name in "ab"}, index=index)
    domain = TimeSeries(context=12, prediction=4, season=12)
    few = FrameSeries(table, domain, "test", test_windows=4)
    assert few.dependence == 0
    every = FrameSeries(table, domain, "test", test_windows=10_000)
    assert every.dependence == 15, "windows of 16 steps from every step"
