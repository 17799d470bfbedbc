"""Guidance in an interval, of rows at times of their own: only rows that it changes are seen twice."""

from __future__ import annotations

import pytest
import torch
from exact import CENTRES

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.denoisers.wrappers import Wrapper
from anydiff.guidance import ClassifierFree
from anydiff.paths import VPLinear
from anydiff.states import Conditioning

TIMES = torch.tensor([0.05, 0.3, 0.5, 0.7, 0.95], dtype=torch.float64)
LABEL = torch.tensor([0, 1, 2, 0, 1])


class Rows(Wrapper):
    """Remembers how many rows each call has."""

    def __init__(self):
        self.seen = []

    def predict(self, denoiser, x, t, kind, condition):
        self.seen.append(len(x))
        return denoiser.predict(x, t, kind, condition)


def states():
    return torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def noise_levels():
    path = VPLinear()
    return path.sigma(TIMES) / path.alpha(TIMES)


@pytest.mark.parametrize("inside", [[], [2], [1, 2, 3], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("hidden", [[], [2, 4]])
def test_each_row_is_as_it_is_alone(inside, hidden):
    levels = noise_levels()
    interval = (float(levels[inside[0]]) * 0.99, float(levels[inside[-1]]) * 1.01) if inside else (1e6, 2e6)
    guided, counted = ClassifierFree(2.5, interval), Rows()
    absent = torch.zeros(5, dtype=torch.bool)
    absent[hidden] = True
    condition = Conditioning({"label": LABEL}).hidden(["label"], absent)
    oracle, x = GaussianMixtureOracle(VPLinear(), CENTRES, 0.3), states()
    together = guided(counted(oracle))(x, TIMES, condition)
    assert counted.seen == [5 + len(set(inside) - set(hidden))]
    for row in range(5):
        alone = guided(oracle)(x[[row]], float(TIMES[row]), condition.rows([row]))
        assert torch.allclose(together[[row]], alone, rtol=1e-12, atol=1e-12)
    assert torch.autograd.grad(together.square().sum(), x)[0].abs().sum(1).gt(0).all()
