"""The exact posterior of an oscillating ellipsoid: its likelihood by hand, its calibration, what it must not see."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff_volumes import ellipsoids_posterior as exact
from anydiff_volumes.ellipsoids import NOISE, Ellipsoids, ellipsoid


def test_the_likelihood_of_a_frame_is_that_of_clamped_noise():
    frame = Ellipsoids("test", test_size=1).sequences[:1, :1]
    table = exact.frame_likelihood(frame)[0, 0]
    normal = torch.distributions.Normal(0.0, 1.0)
    for place in (300, 700, 701):
        expected = ellipsoid(exact._RADII[place])
        levels = (frame[0, 0].double() + 1) / 2
        inside = normal.log_prob((levels - expected) / NOISE) - math.log(NOISE)
        black = torch.special.log_ndtr(-expected / NOISE)
        white = torch.special.log_ndtr((expected - 1) / NOISE)
        total = torch.where(levels <= 0, black, torch.where(levels >= 1, white, inside)).sum()
        if place == 300:
            constant = total - table[place]  # the table leaves out what does not depend on the radius
        assert float(total - table[place] - constant) == pytest.approx(0, abs=1e-6 * abs(float(total)))


@pytest.mark.parametrize(("known", "error"), [(5, 0.05), (3, 1.0)])
def test_the_truth_lies_in_the_posterior_like_any_draw(known, error):
    """Simulation-based calibration: the rank of the truth among the particles is uniform."""
    cases = 40
    data = Ellipsoids("test", test_size=cases, seed=3)
    seen = torch.zeros(cases, 6, dtype=torch.bool)
    seen[:, :known] = True
    radii = exact.draw_courses(data.sequences, seen, seed=1)
    rank = (radii[:, :, 5] < data.radii[:, 5:]).double().mean(dim=1).sort().values
    distance = (rank - (torch.arange(cases) + 0.5) / cases).abs().max() + 0.5 / cases
    assert float(distance) < 1.95 / math.sqrt(cases), "Kolmogorov-Smirnov at one in a thousand"
    assert float((radii[:, :, 5].mean(dim=1) - data.radii[:, 5]).abs().mean()) < error
    assert float((radii[:, :, 0].mean(dim=1) - data.radii[:, 0]).abs().max()) < 0.06, "a frame that is seen is known"


def test_frames_that_are_not_seen_have_no_influence_and_seeds_decide():
    data = Ellipsoids("test", test_size=2)
    seen = torch.tensor([[True, False, True, True, False, False]] * 2)
    other = torch.where(seen[:, :, None, None, None], data.sequences, float("nan"))
    once, again = exact.draw_courses(data.sequences, seen), exact.draw_courses(other, seen)
    assert torch.equal(once, again)
    assert not torch.equal(once, exact.draw_courses(data.sequences, seen, seed=1))


def test_drawn_frames_have_the_law_of_the_data():
    data = Ellipsoids("test", test_size=40)
    made = exact.draw_frames(data.radii[:, 5:], seed=2)[:, 0]
    truth = data.sequences[:, 5]
    still = ellipsoid(data.radii[:, 5]).float() * 2 - 1
    assert float((made.mean() - truth.mean()).abs()) < 2e-3
    assert float((made - still).std()) == pytest.approx(float((truth - still).std()), rel=0.02)
    assert not torch.equal(made, truth)
