"""The kit tries each value of an option that is a Literal, so that no choice of a solver ties a sample to its batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anydiff.registry import registry
from anydiff.solvers.operations import OPERATIONS
from anydiff.testing.solvers import batch
from anydiff.testing.subject import CheckFailed, subject


def over_the_batch(x: Tensor, score: Tensor, noise: Tensor, *, snr: float, scale: float, **rest: float) -> Tensor:
    """The published length: mean norms over the batch."""
    norms = (value.flatten(1).norm(dim=1).mean() for value in (noise, score))
    step = 2 * scale * (snr * next(norms) / next(norms)) ** 2
    return x + step * score + torch.sqrt(2 * step) * noise


def test_a_choice_that_is_not_the_default_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(each for each in registry().entries("solvers") if each.name == "predictor-corrector")
    batch(subject("anydiff"), entry)
    monkeypatch.setitem(OPERATIONS, "langevin", over_the_batch)  # type: ignore[misc]
    with pytest.raises(CheckFailed, match="in with step='norm'"):
        batch(subject("anydiff"), entry)
