"""The objective of progressive distillation: which times it sees, what it leaves out, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.distillation import Progressive, two_step_target
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance import ClassifierFree
from anydiff.networks import MLP
from anydiff.objectives import Beside, Call
from anydiff.paths import VPCosine, VPLinear
from anydiff.states import UNCONDITIONAL, ClassCondition, Conditioning, Leaf, StateSpec

SPEC = StateSpec.single((3,))
GRID = (1.0, 0.7, 0.4, 0.2, 0.001)


def denoiser(seed=0, path=None, kind="data", spec=SPEC, conditions=None):
    torch.manual_seed(seed)
    network = MLP(spec, conditions or {}, width=16, blocks=1).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return NetworkDenoiser(network, path or VPLinear(), kind, spec=spec)


def call_of(objective, student, teacher, condition=UNCONDITIONAL, rows=8, shape=(3,)):
    generator = torch.Generator().manual_seed(4)
    clean, noise = (torch.randn(rows, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    uniform = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    return Call(student, objective.times, clean, noise, uniform, condition, beside=Beside({"teacher": teacher}))


def test_the_student_is_seen_where_its_own_steps_begin_each_equally_often():
    objective = Progressive(GRID)
    uniform = torch.tensor([2.0**-54, 0.25, 0.49, 0.51, 0.75, 1 - 2.0**-53], dtype=torch.float64)
    assert objective.times(VPLinear(), uniform).tolist() == [1.0, 1.0, 1.0, 0.4, 0.4, 0.4]
    assert objective.asked_times("teacher") == GRID[:-1]


@pytest.mark.parametrize("kind", ["data", "noise", "velocity", "edm"])
def test_the_loss_is_the_error_against_the_two_steps(kind):
    objective, student, teacher = Progressive(GRID), denoiser(0, kind=kind), denoiser(1, kind=kind)
    call = call_of(objective, student, teacher)
    t = call.t
    nodes = torch.tensor(GRID, dtype=torch.float64)
    place = torch.tensor([GRID.index(each) for each in t.tolist()])
    target = two_step_target(teacher, call.x, t, nodes[place + 1], nodes[place + 2])
    error = (call.predict("data") - target).square().mean(1)
    weight = ((VPLinear().alpha(t) / VPLinear().sigma(t)) ** 2).clamp(min=1)
    torch.testing.assert_close(objective.loss(call), weight * error, rtol=1e-12, atol=0)
    plain = Progressive(GRID, weighting="data", norm="l1").loss(call)
    torch.testing.assert_close(plain, (call.predict("data") - target).abs().mean(1), rtol=1e-12, atol=0)


def test_a_student_that_predicts_the_target_has_no_loss_and_no_gradient():
    """Data of one point: the teacher's two steps and its one are the same, so it is its own student."""
    point = torch.ones(3, dtype=torch.float64)

    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.at = torch.nn.Parameter(point.clone())

        def forward(self, x, told, condition):
            return self.at.expand_as(x)

    student, teacher = (NetworkDenoiser(Constant(), VPLinear(), "data", spec=SPEC) for _ in range(2))
    loss = Progressive(GRID).loss(call_of(Progressive(GRID), student, teacher)).sum()
    (gradient,) = torch.autograd.grad(loss, list(student.parameters()))
    assert float(loss) == 0.0
    assert float(gradient.abs().max()) == 0.0


def test_no_gradient_reaches_the_teacher():
    student, teacher = denoiser(0), denoiser(1)
    Progressive(GRID).loss(call_of(Progressive(GRID), student, teacher)).sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(float(parameter.grad.abs().max()) > 0 for parameter in student.parameters())


def test_entries_of_absent_nodes_count_for_nothing():
    spec = StateSpec([Leaf("nodes", (4, 2), mask_axes=(0,))])
    objective, student, teacher = Progressive(GRID), denoiser(0, spec=spec), denoiser(1, spec=spec)
    mask = torch.tensor([[True, True, False, False]] * 8)
    call = call_of(objective, student, teacher, Conditioning(mask=mask), shape=(4, 2))
    loss = objective.loss(call)
    made = call.predict("data")
    (gradient,) = torch.autograd.grad(loss.sum(), made)
    assert float(gradient[:, 2:].abs().max()) == 0.0
    assert float(gradient[:, :2].abs().min()) > 0.0
    error = (made - objective.target(call))[:, :2].square().flatten(1).mean(1)
    torch.testing.assert_close(loss / objective._weight(call.gaussian_path, call.t), error, rtol=1e-12, atol=0)


def test_guidance_becomes_part_of_the_target():
    conditions = {"label": ClassCondition(2)}
    student, teacher = (denoiser(seed, conditions=conditions) for seed in (0, 1))
    told = Conditioning({"label": torch.arange(8) % 2})
    guided = Progressive(GRID, guidance=[{"name": "classifier-free", "options": {"scale": 2.0}}])
    call = call_of(guided, student, teacher, told)
    nodes = torch.tensor(GRID, dtype=torch.float64)
    place = torch.tensor([GRID.index(each) for each in call.t.tolist()])
    around = ClassifierFree(2.0)(teacher)
    wanted = two_step_target(around, call.x, call.t, nodes[place + 1], nodes[place + 2], told)
    torch.testing.assert_close(guided.target(call), wanted.detach(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(Progressive(GRID).target(call), wanted, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": [1.0, 0.5, 0.2, 0.001]}, "a grid of 3 steps cannot be halved"),
        ({"grid": [1.0, 0.5, 0.5]}, "must decrease"),
        ({"grid": GRID, "weighting": "snr"}, "unknown weighting 'snr'"),
        ({"grid": GRID, "norm": "l3"}, "unknown norm 'l3'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((AnydiffError, UnknownNameError), match=message):
        Progressive(**options)


def test_a_teacher_that_does_not_fit_is_refused():
    objective, student = Progressive(GRID), denoiser()
    with pytest.raises(AnydiffError, match=r"states of shape \(2,\), but the student of \(3,\)"):
        objective.meet(student, {"teacher": denoiser(spec=StateSpec.single((2,)))})
    for path in (VPCosine(), VPLinear(t_end=0.01)):
        with pytest.raises(AnydiffError, match="give both the same path and range of times"):
            objective.meet(student, {"teacher": denoiser(path=path)})
    for grid in ([1.0, 0.5, 0.0], [0.9, 0.5, 0.1], [1.1, 0.5, 0.1]):
        with pytest.raises(AnydiffError, match=r"the teacher was trained from 1 to 0.001; begin at 1, where"):
            Progressive(grid).meet(student, {"teacher": denoiser()})
