"""A lead time that stands for a missing value is refused, and no whole number comes around to a lead of nothing."""

import numpy as np
import pytest
import xarray
from weather_worlds import perfect

from anydiff.errors import AnydiffError
from anydiff_weather.times import standard_times


@pytest.mark.parametrize("value", [np.iinfo(np.int64).min, np.int32(-(2**31)), np.uint64(2**63), 1e30])
def test_values_for_missing_are_no_lead_times(value):
    data = perfect(2).drop_vars("step").assign_coords(step=xarray.Variable((), value, {"units": "days"}))
    with pytest.raises(AnydiffError, match=r"a lead time of x is .* days, more than 290 years"):
        standard_times(data, "x")
