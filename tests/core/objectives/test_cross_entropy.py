"""Cross-entropy of one-hot leaves in any domain: worked out by hand for one class per sample."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine
from anydiff.registry import registry
from anydiff.states import StateSpec

SPEC = StateSpec.single((3,), name="class")


class Fixed(nn.Module):
    """Probabilities 0.5, 0.25 and 0.125, whatever it sees; 0.125 is left for the class of the rest."""

    def forward(self, x, log_snr, condition=None):
        return torch.tensor([0.5, 0.25, 0.125]).expand(len(x), 3)


def test_the_loss_is_minus_the_logarithm_of_the_probability_of_the_class():
    clean = torch.cat([torch.eye(3), torch.zeros(1, 3)])
    denoiser = NetworkDenoiser(Fixed(), VPCosine(), "data", spec=SPEC)
    objective = registry().build("objectives", "cross-entropy")
    loss = objective(denoiser, clean, torch.zeros(4, 3), torch.full((4,), 0.5))
    expected = -torch.tensor([math.log(0.5), math.log(0.25), math.log(0.125), math.log(0.125)])
    torch.testing.assert_close(loss, expected)


def test_a_network_that_predicts_noise_is_refused():
    denoiser = NetworkDenoiser(Fixed(), VPCosine(), "noise", spec=SPEC)
    with pytest.raises(AnydiffError, match="parametrization: data"):
        registry().build("objectives", "cross-entropy")(
            denoiser, torch.eye(3), torch.zeros(3, 3), torch.full((3,), 0.5)
        )
