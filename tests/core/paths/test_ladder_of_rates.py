"""The rates of the schedule ``diffusion-rate``: the same noise in any number of steps, and no β in their place."""

from __future__ import annotations

import math

import pytest

from anydiff.errors import AnydiffError
from anydiff.paths import DiscreteVP, Ladder


@pytest.mark.parametrize("steps", [5, 25, 1000])
def test_the_last_rung_has_the_noise_of_all_rates_whatever_their_number(steps):
    path = Ladder("diffusion-rate", 0.1, 40.0, steps)
    assert 2 * math.log(path.alpha(path.t_start)) == pytest.approx(-(0.1 + 39.9 / 2), rel=1e-9)


@pytest.mark.parametrize("kind", [Ladder, DiscreteVP])
def test_betas_in_the_place_of_rates_are_refused(kind):
    with pytest.raises(AnydiffError, match=r"beta_end is 0.02, but of the schedule 'diffusion-rate' it is a rate"):
        kind("diffusion-rate")
