"""The free baseline of classes: the frequencies of every entry, and none that mean nothing there."""

from types import SimpleNamespace

import pytest
import torch

from anydiff.data.dataset import Dataset
from anydiff.errors import AnydiffError
from anydiff.states import UNCONDITIONAL, Leaf, StateSpec
from anydiff_benchmarks.engine.baselines import baseline, independent, without_meaning

CLASSES = StateSpec([Leaf("x", (2,), kind="categorical", classes=3)])


class Tokens(Dataset):
    """Entry 0 is class 0 in a quarter of the states and 2 else, entry 1 the same class as entry 0 or 1 if that is 2."""

    name, hash = "tokens", "0"

    def __init__(self, spec=CLASSES):
        self.domain_ = SimpleNamespace(spec=spec, conditions={})
        first = torch.tensor([0, 2, 2, 2]).repeat(300)
        self.states = torch.stack([first, torch.where(first == 2, 1, 0)], dim=1)

    @property
    def domain(self):
        return self.domain_

    def __len__(self):
        return len(self.states)

    def batch(self, indices):
        return self.states[torch.as_tensor(indices)], UNCONDITIONAL


def test_entries_have_their_own_frequencies_and_know_nothing_of_each_other():
    found = independent(Tokens(), 20_000, seed=1).states
    assert found.dtype == torch.int64
    assert (found[:, 0] == 0).double().mean() == pytest.approx(0.25, abs=0.015)
    assert not (found[:, 0] == 1).any(), "a class that no example has is never drawn"
    both = ((found[:, 0] == 0) & (found[:, 1] == 0)).double().mean()
    assert both == pytest.approx(0.25**2, abs=0.01), "in the data it is 0.25"


def test_what_is_drawn_depends_on_the_seed_alone():
    few, many = (independent(Tokens(), count, seed=4).states for count in (5, 50))
    assert torch.equal(few, many[:5])
    assert not torch.equal(many, baseline("independent", Tokens(), 50, seed=5).states)


def test_gaussians_are_for_real_numbers_and_frequencies_for_classes():
    real = Leaf("y", (1,))
    assert without_meaning(CLASSES) == ("gaussian", "gaussian-diagonal")
    assert without_meaning(StateSpec([real])) == ("independent",)
    assert without_meaning(StateSpec([*CLASSES.leaves, real])) == ("gaussian", "gaussian-diagonal", "independent")
    with pytest.raises(AnydiffError, match="leaf 'y' of 'tokens' holds real numbers; take 'gaussian-diagonal'"):
        independent(Tokens(StateSpec([*CLASSES.leaves, real])), 3)
