"""Known entries: exact at the end of every plan, the exact conditional where the network sees them clean."""

from __future__ import annotations

import pytest
import torch
from exact import solver_entries

from anydiff.denoisers import FunctionDenoiser, GaussianOracle
from anydiff.denoisers.wrappers import KnownEntries
from anydiff.errors import AnydiffError
from anydiff.paths import EDM, VPCosine
from anydiff.samplers import sample
from anydiff.states import Conditioning, Known

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
MASK = torch.tensor([True, False])


def known(rows: int, value: float = 1.2) -> Conditioning:
    values = torch.tensor([[value, float("nan")]], dtype=torch.float64).expand(rows, 2)
    return Conditioning(known=Known(values, MASK.expand(rows, 2)))


@pytest.mark.parametrize("name", [entry.name for entry in solver_entries()])
def test_every_plan_brings_them_to_the_known_values(name):
    """By itself up to the noise that the last node leaves; bit for bit in the end."""
    oracle = GaussianOracle(VPCosine(), MEAN, COVARIANCE)
    options = {"nfe": 48, "solver": name, "dtype": torch.float64, "condition": known(6)}
    last = []
    states = sample(
        oracle, (2,), 6, guidance=KnownEntries(), callbacks=[lambda step: last.append(step.state.clone())], **options
    )
    assert torch.equal(states[:, 0], torch.full((6,), 1.2, dtype=torch.float64))
    assert (last[-1][:, 0] - 1.2).abs().max() < 0.2
    assert states.isfinite().all()


@pytest.mark.parametrize("path", [VPCosine(), EDM()])
def test_a_network_that_sees_them_clean_samples_the_exact_conditional(path):
    """Entry 1 given entry 0 = y of a correlated Gaussian is N(m + 0.8 (y - m0), 1 - 0.8²)."""

    def conditional(x, t):
        y = x[:, 0]
        mean, variance = MEAN[1] + 0.8 * (y - MEAN[0]), 1 - 0.8**2
        alpha, sigma = path.alpha(t), path.sigma(t)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        return torch.stack([y, mean + gain * (x[:, 1] - alpha * mean)], dim=1)

    states = sample(
        FunctionDenoiser(conditional, path), (2,), 4000, nfe=60, solver="ddim", guidance=KnownEntries("clean"),
        condition=known(4000), dtype=torch.float64,
    )  # fmt: skip
    expected = MEAN[1] + 0.8 * (1.2 - MEAN[0])
    assert abs(states[:, 1].mean() - expected) < 4 * 0.6 / 4000**0.5 + 0.005
    assert states[:, 1].std() == pytest.approx(0.6, rel=0.06)


def test_independent_entries_are_left_alone():
    oracle = GaussianOracle(VPCosine(), MEAN, torch.eye(2, dtype=torch.float64))
    free = sample(oracle, (2,), 5, nfe=8, dtype=torch.float64)
    held = sample(oracle, (2,), 5, nfe=8, guidance=KnownEntries(), condition=known(5), dtype=torch.float64)
    torch.testing.assert_close(held[:, 1], free[:, 1], rtol=0, atol=1e-12)


def test_without_known_values_it_does_nothing_bit_for_bit():
    oracle = GaussianOracle(VPCosine(), MEAN, COVARIANCE)
    assert torch.equal(sample(oracle, (2,), 5, nfe=8), sample(oracle, (2,), 5, nfe=8, guidance=KnownEntries()))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"values": torch.zeros(3, 5)}, "known has shape"),
        ({"mask": torch.ones(3, 5, dtype=torch.bool)}, "known_mask has shape"),
        ({"values": torch.zeros(4, 2)}, "known.values has .* where 3 rows are needed"),
        ({"values": torch.full((3, 2), float("nan"))}, "not finite inside known_mask"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    condition = Conditioning(known=known(3).known._replace(**change))
    oracle = GaussianOracle(VPCosine(), MEAN, COVARIANCE)
    with pytest.raises(AnydiffError, match=sentence):
        sample(oracle, (2,), 3, nfe=2, guidance=KnownEntries(), condition=condition)


def test_the_view_is_named():
    with pytest.raises(AnydiffError, match="noised"):
        KnownEntries("dirty")
