"""The published figure of EDLM, by enumeration: no bound of a likelihood.

With carried-over energies it is the autoregressive model's likelihood; with the exact energy it is below the entropy.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from laws import CLASSES, LENGTH, law_p, sequences, spec
from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.guidance import AutoregressiveEnergy
from anydiff.networks.sequence import Tokens
from anydiff.paths import Masked
from anydiff.states import UNCONDITIONAL

P = law_p().double()
STATES = sequences(CLASSES, LENGTH)
PATTERNS = [torch.tensor(each) for each in itertools.product([False, True], repeat=LENGTH) if any(each)]


def visible(hidden: Tensor) -> Tensor:
    """Log p of the visible entries of every sequence."""
    axes = [place for place in range(LENGTH) if hidden[place]]
    there = P.sum(axes, keepdim=True) if axes else P  # no axes would mean all of them
    return there.expand_as(P).flatten().log()


def proposal(hidden: Tensor) -> Tensor:
    """Log of the product of the exact conditionals of the hidden entries, of every sequence."""
    total = torch.zeros(len(STATES), dtype=torch.float64)
    for place in range(LENGTH):
        if hidden[place]:
            others = hidden.clone()
            others[place] = False
            total += visible(others) - visible(hidden)
    return total


def figure(cost) -> Tensor:
    """∫ 1/t E[cost(x_0, mask pattern)] dt over t in (0, 1) of every sequence, the linear schedule."""
    total = torch.zeros(len(STATES), dtype=torch.float64)
    for hidden in PATTERNS:
        masks = int(hidden.sum())
        weight = math.exp(math.lgamma(masks) + math.lgamma(LENGTH - masks + 1) - math.lgamma(LENGTH + 1))
        total += weight * cost(hidden)
    return total


def test_carried_over_the_figure_is_the_likelihood_of_the_autoregressive_model() -> None:
    torch.manual_seed(0)
    network = Tokens(spec(), width=16, blocks=2, heads=2, causal=True)
    nn.init.normal_(network.exit.weight)
    denoiser = NetworkDenoiser(network.eval(), Masked().bind(spec()), "logits", spec=spec())
    energy = AutoregressiveEnergy(denoiser, carry_over=True)

    def cost(hidden: Tensor) -> Tensor:
        x, log_q = torch.where(hidden, CLASSES, STATES), proposal(hidden)
        return energy(STATES[:, None], log_q[:, None], x, 0.5, UNCONDITIONAL)[:, 0] - log_q  # log Z is 0

    with torch.no_grad():
        logits = denoiser.predict(STATES, 0.0, "logits")
        whole = torch.log_softmax(logits, -1).gather(-1, STATES[..., None])[..., 0].double().sum(1)
        assert torch.allclose(figure(cost), -whole, atol=1e-5)
    assert float(whole.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_exact_energy_gives_a_figure_below_the_entropy_and_exact_entries_give_the_entropy() -> None:
    chance = P.flatten()
    entropy = float(-(chance * chance.log()).sum())
    by_entries = float((chance * figure(lambda hidden: -proposal(hidden))).sum())
    joint = float((chance * figure(lambda hidden: visible(hidden) - chance.log())).sum())
    assert by_entries == pytest.approx(entropy, abs=1e-6)
    assert joint < entropy - 0.1, "the released evaluation would call this a perplexity better than the law itself"
