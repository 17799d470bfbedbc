"""Known entries of a pipeline are a measurement: nearer to the exact law than replacing them, exact where they are
known."""

from __future__ import annotations

import warnings

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.denoisers.wrappers import KnownEntries
from anydiff.inverse.known import MeasuredEntries, can_measure
from anydiff.paths import Flow, PFGMPlusPlus, ProductPath, VPCosine
from anydiff.pipeline import load
from anydiff.samplers import sample
from anydiff.states import Conditioning, Known, Leaf, StateSpec


def pair(correlation=0.9):
    return torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)


def drawn(inner, layer, count=2000, **options):
    values, mask = torch.tensor([2.0, 0.0]), torch.tensor([True, False])
    condition = Conditioning(known=Known(values.expand(count, -1), mask.expand(count, -1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error" if isinstance(layer, MeasuredEntries) else "ignore")
        return sample(
            inner, options.pop("spec", (2,)), count, nfe=20, guidance=layer, condition=condition, dtype=torch.float64,
            batch_size=count, **options,
        )  # fmt: skip


@pytest.mark.parametrize("path", [VPCosine(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("solver", ["ddpm", "dpm-solver++-2m", "by-budget"])
def test_the_other_entry_follows(path, solver):
    """x_2 given x_1 = 2 under a correlation of 0.9: mean 1.8, deviation 0.44; replacing gives a mean far below."""
    inner = GaussianOracle(path, torch.zeros(2), pair())
    exact = sample(
        GaussianOracle(path, torch.tensor([2.0, 1.8]), torch.tensor([0.0, 0.19])), (2,), 2000, nfe=20, solver=solver,
        dtype=torch.float64, batch_size=2000,
    )  # fmt: skip
    found = drawn(inner, MeasuredEntries(), solver=solver)
    assert torch.equal(found[:, 0], torch.full((2000,), 2.0, dtype=torch.float64))
    assert float(found[:, 1].mean()) == pytest.approx(1.8, abs=0.05)
    assert float(found[:, 1].std()) == pytest.approx(float(exact[:, 1].std()), abs=0.03)
    assert float(drawn(inner, KnownEntries(), solver=solver)[:, 1].mean()) < 1.6


def test_a_schedule_for_each_leaf():
    """The shift is σ²/α of each entry's own leaf."""
    spec = StateSpec([Leaf("a", (1,)), Leaf("b", (1,))])
    path = ProductPath((("a", VPCosine()), ("b", VPCosine(t_end=0.02)))).bind(spec)
    assert can_measure(GaussianOracle(path, torch.zeros(2), 1.0))
    found = drawn(GaussianOracle(path, torch.zeros(2), pair()), MeasuredEntries(), solver="ddpm", spec=spec)
    assert float(found[:, 1].mean()) == pytest.approx(1.8, abs=0.06)


def test_noise_of_other_laws_is_left_to_replacing():
    assert not can_measure(GaussianOracle(PFGMPlusPlus(), torch.zeros(2), 1.0))


def test_a_pipeline_measures_known_entries():
    pipeline = load("images/fashion")
    states = torch.linspace(-1, 1, 28 * 28).reshape(1, 28, 28)
    mask = torch.zeros(1, 28, 28, dtype=torch.bool)
    mask[:, :14] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pipeline.sample_set(2, known=states, known_mask=mask, nfe=3).states
    with pytest.warns(UserWarning, match="exact law"):
        old = pipeline.sample_set(2, known=states, known_mask=mask, nfe=3, guidance=[KnownEntries()]).states
    assert torch.equal(found[:, mask], states[mask].expand(2, -1))
    assert not torch.equal(found, old)
