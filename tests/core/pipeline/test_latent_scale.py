"""Latents of another size than the recipe says are told of before a training."""

from __future__ import annotations

import warnings

import pytest
import torch

from anydiff.networks import Autoencoder
from anydiff.pipeline.latent import Latent, LatentDataset, warn_of_scale
from anydiff.states import Conditioning, StateSpec


class Waves:
    name, spec = "waves", StateSpec.single((1, 16))
    conditions: dict = {}  # noqa: RUF012

    def __init__(self):
        self.domain = self

    def __len__(self):
        return 40

    def batch(self, indices):
        rows = torch.tensor(list(indices))[:, None, None]
        return torch.sin(0.3 * rows + torch.arange(16.0)), Conditioning()


def test_a_deviation_beyond_a_factor_of_two_is_a_warning_that_names_the_right_one():
    torch.manual_seed(0)
    data = LatentDataset(Waves(), Latent(Waves(), Autoencoder(Waves.spec, channels=8)))
    deviation = float(data.batch(range(40))[0].std())
    for factor in (5, 1 / 5):
        with pytest.warns(UserWarning, match=f"have a deviation of {deviation:.3g}, .* set sigma_data={deviation:.3g}"):
            warn_of_scale(data, deviation * factor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for factor in (1.0, 1.9, 0.6):
            warn_of_scale(data, deviation * factor)
