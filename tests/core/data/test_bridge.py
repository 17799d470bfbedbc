"""Bridges: who travels to whom, and that micro batches and devices change nothing of it."""

from __future__ import annotations

import pytest
import torch

from anydiff.data.bridge import Bridge
from anydiff.data.dataset import Dataset
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import Interpolant
from anydiff.states import Conditioning, StateSpec
from anydiff.training import TrainingSettings
from anydiff.training.examples import ExampleStream


class Numbers(Dataset):
    """The numbers from ``first`` on, as states of one entry."""

    name = "numbers"

    def __init__(self, count, first, size=1):
        self.count, self.first, self.size = count, first, size

    @property
    def domain(self):
        raise NotImplementedError

    @property
    def spec(self):
        return StateSpec.single((self.size,))

    @property
    def conditions(self):
        return {}

    def __len__(self):
        return self.count

    def batch(self, indices):
        return torch.tensor([[float(self.first + i)] * self.size for i in indices]), Conditioning()


class Between(Bridge):
    spec = StateSpec.single((1,))
    conditions: dict = {}  # noqa: RUF012 (a data set of one test)


def stream(coupling, starts=13, batch=8):
    bridge = Between("test", Numbers(10, 0), Numbers(starts, 100), coupling)
    return ExampleStream(bridge, Interpolant(), TrainingSettings(steps=50, batch_size=batch, seed=3))


def pairs(examples):
    return list(zip(examples.clean[:, 0].tolist(), examples.condition.sources["start"][:, 0].tolist(), strict=True))


@pytest.mark.parametrize("coupling", ["independent", "optimal"])
def test_what_is_drawn_depends_on_positions_alone(coupling):
    whole = pairs(stream(coupling).examples(1, range(8, 16)))
    parts = stream(coupling)
    assert pairs(parts.examples(1, range(12, 16))) == whole[4:]
    assert pairs(parts.examples(1, range(8, 12))) == whole[:4]


def test_an_independent_coupling_meets_every_start_and_no_fixed_partner():
    made = stream("independent")
    met: dict[float, set[float]] = {}
    for step in range(30):
        for clean, start in pairs(made.examples(step, range(8 * step, 8 * step + 8))):
            met.setdefault(clean, set()).add(start)
    assert set().union(*met.values()) == {100.0 + i for i in range(13)}
    assert min(len(starts) for starts in met.values()) > 5


def test_a_paired_coupling_keeps_its_partners():
    made = stream("paired", starts=10)
    for step in range(3):
        for clean, start in pairs(made.examples(step, range(8 * step, 8 * step + 8))):
            assert start == clean + 100


def test_an_optimal_coupling_is_the_least_of_all_assignments_of_the_batch():
    """In one dimension the best assignment is the one in order."""
    made = pairs(stream("optimal").examples(2, range(16, 24)))
    cleans, starts = (sorted(values) for values in zip(*made, strict=True))
    assert sorted(made) == list(zip(cleans, starts, strict=True))


def test_ends_that_do_not_fit_are_refused():
    with pytest.raises(AnydiffError, match=r"10 examples and 13 starts.*take coupling: independent"):
        Bridge("test", Numbers(10, 0), Numbers(13, 0), "paired")
    with pytest.raises(AnydiffError, match=r"from states of shape \(2,\) to states of shape \(1,\)"):
        Bridge("test", Numbers(10, 0), Numbers(10, 0, 2))
    with pytest.raises(UnknownNameError, match="coupling"):
        Bridge("test", Numbers(10, 0), Numbers(10, 0), "nearest")
