"""Free baselines on a data set with known moments."""

import pytest
import torch

from anydiff.data.dataset import Dataset
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import Conditioning, Leaf, StateSpec
from anydiff_benchmarks.engine.baselines import BASELINES, baseline, gaussian, resample


class FakeDomain:
    def __init__(self, shape):
        self.spec = StateSpec([Leaf("x", shape)])
        self.conditions = {}


class Correlated(Dataset):
    """Second entry = first + small noise, third constant."""

    name = "correlated"
    hash = "0"

    def __init__(self, count=4000, shape=(3,)):
        self.domain_ = FakeDomain(shape)
        generator = torch.Generator().manual_seed(0)
        first = 2 * torch.randn(count, generator=generator) + 5
        second = first + 0.1 * torch.randn(count, generator=generator)
        self.states = torch.stack([first, second, torch.full((count,), 7.0)], dim=1)

    @property
    def domain(self):
        return self.domain_

    def __len__(self):
        return len(self.states)

    def batch(self, indices):
        rows = torch.as_tensor(indices)
        return self.states[rows], Conditioning({"label": rows})


def test_resample_takes_different_real_examples_with_their_conditions():
    data = Correlated()
    drawn = resample(data, 1000, seed=3)
    assert len(set(drawn.condition.given["label"].tolist())) == 1000
    assert torch.equal(drawn.states, data.states[drawn.condition.given["label"]])
    assert torch.equal(drawn.states, resample(data, 1000, seed=3).states)
    assert not torch.equal(drawn.states, resample(data, 1000, seed=4).states)
    assert torch.equal(drawn.states[:10], resample(data, 10, seed=3).states)


def test_resample_refuses_more_than_there_are():
    with pytest.raises(AnydiffError, match="count is 4001"):
        resample(Correlated(), 4001)


def test_gaussian_has_the_moments_of_the_data():
    data = Correlated()
    full = gaussian(data, 20000, seed=1).states.double()
    assert torch.allclose(full.mean(dim=0), data.states.double().mean(dim=0), atol=0.06)
    assert torch.allclose(full.T.cov(), data.states.double().T.cov(), atol=0.15)
    assert full[:, 2].std() < 1e-5
    assert (full[:, 1] - full[:, 0]).std() == pytest.approx(0.1, rel=0.05)


def test_the_diagonal_gaussian_forgets_correlations_only():
    data = Correlated()
    states = gaussian(data, 20000, seed=1, diagonal=True).states.double()
    assert torch.allclose(states.std(dim=0), data.states.double().std(dim=0), atol=0.05)
    assert abs(float(torch.corrcoef(states[:, :2].T)[0, 1])) < 0.03


def test_samples_do_not_depend_on_how_many_are_drawn():
    data = Correlated()
    assert torch.allclose(gaussian(data, 5, seed=2).states, gaussian(data, 50, seed=2).states[:5])


def test_more_gaussian_draws_than_data_cycle_the_conditions():
    data = Correlated(count=10)
    drawn = gaussian(data, 25)
    assert len(drawn) == 25
    assert torch.equal(drawn.condition.given["label"][:10], drawn.condition.given["label"][10:20])


def test_large_states_need_the_diagonal():
    data = Correlated(count=10)
    data.domain_ = FakeDomain((5000,))
    data.states = torch.randn(10, 5000)
    with pytest.raises(AnydiffError, match="gaussian-diagonal"):
        gaussian(data, 5)
    assert gaussian(data, 5, diagonal=True).states.shape == (5, 5000)


def test_baselines_by_name():
    for name in set(BASELINES) - {"independent"}:  # of classes alone, see test_independent_baseline.py
        assert len(baseline(name, Correlated(), 20)) == 20
    with pytest.raises(UnknownNameError, match="gaussian"):
        baseline("gausian", Correlated(), 20)


class Labelled(Correlated):
    def batch(self, indices):
        states, _ = super().batch(indices)
        return states, Conditioning({"label": torch.tensor([index % 4 for index in indices])})


def test_resample_follows_the_classes_that_a_model_is_asked_for():
    asked = torch.tensor([3, 0, 0, 1, 2] * 20)
    drawn = resample(Labelled(), 100, seed=5, condition=Conditioning({"label": asked}))
    assert torch.equal(drawn.condition.given["label"], asked)
    assert len(torch.unique(drawn.states, dim=0)) == 100
    other = resample(Labelled(), 100, seed=6, condition=Conditioning({"label": asked}))
    assert not torch.equal(other.states, drawn.states)


def test_resample_takes_another_class_when_one_is_used_up():
    drawn = resample(Labelled(count=8), 4, condition=Conditioning({"label": torch.tensor([1, 1, 1, 1])}))
    assert (drawn.condition.given["label"] == 1).sum() == 2
    assert len(torch.unique(drawn.states, dim=0)) == 4
