"""Automatic selection of residual or noise prediction: the mixed loss, the choice, and what follows it."""

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import AutomaticSelection
from anydiff.objectives.call import Call
from anydiff.paths import RDDM
from anydiff.states import Conditioning

PATH = RDDM(sum_scale=0.25)
CLEAN, INPUT, NOISE = torch.tensor([[1.0, 2.0], [0.5, -1.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.ones(2, 2)
GIVEN = Conditioning(sources={"input": INPUT})


def call(objective, output, kind="residual", uniform=0.5):
    denoiser = FunctionDenoiser(lambda x, t: torch.full_like(x, output), PATH, kind)
    objective.prepare(denoiser)
    return Call(denoiser, objective.times, CLEAN, NOISE, torch.full((2,), uniform), GIVEN)


def test_the_mixed_loss_is_that_of_the_sheet():
    objective, o, q = AutomaticSelection(), 0.3, 0.505
    with torch.no_grad():
        objective.selector.q.fill_(q)
    made = call(objective, o)
    a, b = 0.75, 0.25  # A and B at t = 1/2: 1 - 1/4, and sqrt(1/4) 1/2
    residual = INPUT - CLEAN
    x = CLEAN + a * residual + b * NOISE
    assert torch.allclose(made.x, x)
    as_noise = (x - INPUT - b * o) / (a - 1)  # the residual that follows if o is the noise
    as_residual = (x - INPUT - (a - 1) * o) / b  # the noise that follows if o is the residual
    losses = objective.losses(made)
    wanted = q * (q * o + (1 - q) * as_noise - residual).abs().mean(1)
    assert torch.allclose(losses["residual"], wanted, atol=1e-6)
    wanted = (1 - q) * (q * as_residual + (1 - q) * o - NOISE).abs().mean(1)
    assert torch.allclose(losses["noise"], wanted, atol=1e-6)


@pytest.mark.parametrize(("q", "kind"), [(0.511, "residual"), (0.489, "noise")])
def test_the_kind_is_chosen_at_the_threshold_and_kept(q, kind):
    objective = AutomaticSelection()
    with torch.no_grad():
        objective.selector.q.fill_(q)
    made = call(objective, 0.3, kind)
    wanted = (0.3 - (INPUT - CLEAN if kind == "residual" else NOISE)).abs().mean(1)
    assert list(objective.losses(made)) == [kind]
    assert torch.allclose(objective.losses(made)[kind], wanted)
    assert objective.chosen == kind
    with torch.no_grad():
        objective.selector.q.fill_(0.5)
    assert objective.losses(made)[kind].requires_grad  # of q, so that no parameter is unused
    again = AutomaticSelection()
    again.selector.load_state_dict(objective.selector.state_dict())
    assert again.chosen == kind


def test_before_the_choice_both_ends_are_left_out_and_afterwards_not():
    objective = AutomaticSelection(edge=0.1)
    ends = torch.tensor([0.0, 1.0])
    assert objective.times(PATH, ends).tolist() == pytest.approx([0.1, 0.9])
    objective.selector.chosen.fill_(0)
    assert objective.times(PATH, ends).tolist() == [0, 1]


def test_q_learns_which_is_easier():
    """An output that is always the residual: the error of the noise that follows from it is 0, too, and q rises."""
    objective = AutomaticSelection(norm="l2")
    optimiser = torch.optim.SGD([objective.selector.q], lr=0.02)

    denoiser = FunctionDenoiser(lambda x, t: INPUT - CLEAN, PATH, "residual")
    for step in range(200):
        uniform = torch.full((2,), (step % 9 + 1) / 10)
        loss = objective.loss(Call(denoiser, objective.times, CLEAN, NOISE, uniform, GIVEN)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if objective.chosen:
            break
    assert objective.chosen == "residual"


def test_what_cannot_be_selected_is_refused():
    objective = AutomaticSelection()
    with pytest.raises(AnydiffError, match="parametrization is data, but the selection is between residual and noise"):
        call(objective, 0.0, "data")
    with torch.no_grad():
        objective.selector.q.fill_(0.48)
    with pytest.raises(AnydiffError, match=r"chose the noise prediction \(q = 0.480\).*parametrization=noise"):
        objective.losses(call(objective, 0.3))
    with pytest.raises(AnydiffError, match="threshold is 0, but"):
        AutomaticSelection(threshold=0)
    with pytest.raises(AnydiffError, match=r"edge is 0\.5"):
        AutomaticSelection(edge=0.5)
    with pytest.raises(UnknownNameError, match="l3"):
        AutomaticSelection(norm="l3")
