"""Options of a policy that must be whole numbers are refused where it is made, not at its first warm plan."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff_trajectories.policy import DiffusionPolicy


@pytest.mark.parametrize("wrong", [0, 2.5, "4"])
def test_the_calls_of_a_warm_plan_are_a_natural_number(wrong):
    pipeline = Pipeline.untrained(load_recipe("trajectories/pendulum"))
    with pytest.raises(AnydiffError, match="warm_nfe"):
        DiffusionPolicy(pipeline, warm_start=0.3, warm_nfe=wrong)
