"""A network that sees known entries clean by itself says so, and is not said to be approximate."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import Clamp, KnownEntries
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, Conditioning, Known

ROWS, START = 3, torch.full((3, 1), 0.5)


class Starts(nn.Module):
    """Sees the condition ``start`` in place of the first of two entries."""

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        seen = self.seen_clean(condition)
        return 0.1 * (x if seen is None else torch.where(seen.mask, seen.values, x))

    def seen_clean(self, condition):
        start = condition.given.get("start")
        if start is None:
            return None
        values = torch.cat([start, torch.zeros_like(start)], 1)
        return Known(values, torch.tensor([[True, False]]).expand(len(start), 2))


def known(first=0.5, both=False):
    """Known entries beside the start 0.5; of the first entry, or of both."""
    return Conditioning(
        {"start": START}, known=Known(torch.full((ROWS, 2), first), torch.tensor([[True, both]] * ROWS))
    )


def draw(condition, guidance=()):
    return sample(NetworkDenoiser(Starts(), VPLinear()), (2,), ROWS, nfe=2, guidance=guidance, condition=condition)


@pytest.mark.parametrize("guidance", [(), [Clamp()], [KnownEntries()]])
def test_what_it_sees_clean_is_exact_and_nothing_is_said(guidance):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(known(), guidance)[:, 0].tolist() == [0.5] * ROWS


@pytest.mark.parametrize("condition", [known(both=True), known(first=0.7), known().only(())])
def test_entries_that_it_does_not_see_or_sees_otherwise_are_approximate(condition):
    with pytest.warns(UserWarning, match="are not drawn from their exact law"):
        draw(condition)
