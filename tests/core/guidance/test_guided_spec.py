"""What is built around a denoiser knows the leaves of its states; around windows there is another state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import (
    Clamp,
    DynamicThreshold,
    KnownEntries,
    PresentNodes,
    TimeShift,
    Windows,
    wrapped,
)
from anydiff.guidance import ClassifierFree, ScoreGuidance
from anydiff.objectives import Denoising
from anydiff.paths import VPLinear
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec

SPEC = StateSpec.single((4, 2), mask_axes=(0,))


class Zero(nn.Module):
    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        return torch.zeros_like(x)


DENOISER = NetworkDenoiser(Zero(), VPLinear(), "noise", 1.0, SPEC)
LAYERS = [
    Clamp(), ClassifierFree(1.0), DynamicThreshold(), KnownEntries(), PresentNodes(SPEC),
    ScoreGuidance(lambda x, t, condition: x.flatten(1).sum(1), 0.0), TimeShift(),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_guided_denoiser_keeps_the_spec_and_so_the_loss_its_mask(layer):
    guided = wrapped(DENOISER, layer)
    assert guided.spec is SPEC
    clean = torch.zeros(2, 4, 2)
    noise = torch.ones(2, 4, 2)
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    loss = Denoising("uniform")(guided, clean, noise, torch.tensor([0.3, 0.6]), Conditioning(mask=mask))
    plain = Denoising("uniform")(DENOISER, clean, noise, torch.tensor([0.3, 0.6]), Conditioning(mask=mask))
    if layer.__class__ in (ClassifierFree, PresentNodes, ScoreGuidance):
        assert torch.allclose(loss, plain)


def test_a_windowed_denoiser_does_not_keep_it():
    assert wrapped(DENOISER, Windows((2, 2), 1)).spec is None
