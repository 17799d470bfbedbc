"""One thread, and fewer volumes per metric than the kit takes of smaller states."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    torch.set_num_threads(1)
    # A volume has 25,000 numbers: 400 of them for each check would take minutes and say no more.
    monkeypatch.setattr("anydiff.testing.metrics.MOST", 64)
