"""sample(noise=): every draw from a source that the caller gives, keyed by the index of the sample."""

from __future__ import annotations

import pytest
import torch
from exact import gaussian

from anydiff.errors import AnydiffError
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import NoiseSource, StateSpec

SPEC = StateSpec.single((2,))


def drawn(**options):
    settings = {"solver": "ddpm", "nfe": 5, "dtype": torch.float64, **options}
    return sample(gaussian(VPLinear()), SPEC, settings.pop("count", 6), **settings)


def test_the_streams_of_a_seed_given_as_a_source_are_the_seed_bit_for_bit():
    assert torch.equal(drawn(noise=NoiseSource(SPEC, 7)), drawn(seed=7))
    assert not torch.equal(drawn(noise=NoiseSource(SPEC, 7)), drawn(seed=8))
    assert torch.equal(drawn(noise=NoiseSource(SPEC, 7), count=[4, 1], batch_size=1), drawn(seed=7)[[4, 1]])


def test_draws_of_another_shape_are_refused():
    with pytest.raises(AnydiffError, match=r"noise gives \(6, 3\) for draw 0 of 6 samples, but must give \(6, 2\)"):
        drawn(noise=NoiseSource(StateSpec.single((3,)), 7))
