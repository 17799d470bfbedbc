"""MMD finetuning: the estimator against a double loop, gradients through the sampler, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.distillation import MMD, kernel_values, squared_mmd
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import MLP
from anydiff.objectives import Call
from anydiff.paths import VPLinear
from anydiff.states import UNCONDITIONAL, ClassCondition, Conditioning, Draws, StateSpec

SPEC = StateSpec.single((2,))
GAMMA = (0.1, 0.5, 2.0)


def points(rows, seed, shift=0.0):
    return torch.randn(rows, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def one(a, b, kernel):
    if kernel == "polynomial":
        return (0.5 * float(a @ b) + 1) ** 3
    if kernel == "rbf":
        return sum(math.exp(-g * float((a - b).square().sum())) for g in GAMMA)
    return -float((a - b).norm())


@pytest.mark.parametrize("kernel", ["polynomial", "rbf", "energy"])
@pytest.mark.parametrize("paired", [False, True])
def test_the_estimator_is_the_double_loop(kernel, paired):
    made, real, n = points(9, 1), points(9, 2, 0.3), 9
    within = sum(one(x[i], x[j], kernel) for x in (made, real) for i in range(n) for j in range(n) if i != j)
    between = [one(made[i], real[j], kernel) for i in range(n) for j in range(n) if not (paired and i == j)]
    wanted = within / (n * (n - 1)) - 2 * sum(between) / len(between)
    gamma = GAMMA if kernel == "rbf" else ()
    assert abs(float(squared_mmd(made, real, kernel, gamma, paired=paired)) - wanted) < 1e-10


@pytest.mark.parametrize("kernel", ["rbf", "energy"])
def test_it_is_zero_on_average_for_one_law(kernel):
    found = torch.stack([squared_mmd(points(12, 2 * k), points(12, 2 * k + 1), kernel, GAMMA) for k in range(500)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / math.sqrt(500)
    assert float(found.min()) < 0  # it is not clamped


def test_samples_asked_for_the_conditions_of_the_examples_are_paired():
    """Both rows i lie at one of two places: with the pairs left in, the mean is off; without them it is not."""
    means = {}
    for paired in (False, True):
        found = []
        for k in range(500):
            place = 3.0 * (torch.rand(6, 1, generator=torch.Generator().manual_seed(k)) < 0.5).double()
            found.append(squared_mmd(points(6, 2 * k) + place, points(6, 2 * k + 1) + place, "energy", paired=paired))
        found = torch.stack(found)
        means[paired] = float(found.mean()) / (float(found.std()) / math.sqrt(500))
    assert abs(means[True]) < 3
    assert abs(means[False]) > 10


def test_a_linear_kernel_sees_the_shift_of_the_mean():
    shift = torch.tensor([0.4, -0.3], dtype=torch.float64)
    found = torch.stack(
        [squared_mmd(points(16, 2 * k) + shift, points(16, 2 * k + 1), "polynomial", (0.5,), 1) for k in range(500)]
    )
    wanted = 0.5 * float(shift.square().sum())
    assert abs(float(found.mean()) - wanted) < 3 * float(found.std()) / math.sqrt(500)


def test_order_does_not_count_and_neither_does_which_is_which():
    made, real = points(8, 1), points(8, 2, 1.0)
    first = squared_mmd(made, real, "rbf", GAMMA)
    torch.testing.assert_close(squared_mmd(made.flip(0), real, "rbf", GAMMA), first, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(squared_mmd(real, made, "rbf", GAMMA), first, rtol=1e-12, atol=1e-14)
    assert kernel_values(made, made[:3], "energy", (), 3).shape == (8, 3)


def denoiser(dtype=torch.float64, conditions=None):
    torch.manual_seed(0)
    network = MLP(SPEC, conditions or {}, width=16, blocks=1).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return NetworkDenoiser(network, VPLinear(), "data", spec=SPEC)


def call_of(model, rows=6, condition=UNCONDITIONAL, dtype=torch.float64):
    clean = points(rows, 5).to(dtype)
    uniform = torch.full((rows,), 0.5, dtype=torch.float64)
    return Call(model, MMD(3).times, clean, clean, uniform, condition, Draws(3, range(rows), name="objective/mmd"))


def test_the_gradient_through_three_calls_is_the_difference():
    model, objective = denoiser(), MMD(3, kernel="rbf", gamma=GAMMA)
    objective.prepare(model)
    parameters = list(model.parameters())

    def loss():
        return objective.loss(call_of(model)).mean()

    found = torch.autograd.grad(loss(), parameters)
    way = [torch.randn(p.shape, generator=torch.Generator().manual_seed(4), dtype=p.dtype) for p in parameters]
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, each in zip(parameters, way, strict=True):
                parameter.add_(step * each)
            values.append(float(loss()))
    slope = sum(float((g * each).sum()) for g, each in zip(found, way, strict=True))
    assert abs((values[0] - values[1]) / 2e-5 - slope) < 1e-4 * abs(slope)


def test_the_loss_of_every_row_is_that_of_the_batch_and_counts_conditions():
    model = denoiser(conditions={"label": ClassCondition(2)})
    objective = MMD(2)
    told = Conditioning({"label": torch.tensor([0, 1, 0, 1, 0, 1])})
    loss = objective.loss(call_of(model, condition=told))
    assert loss.shape == (6,)
    assert len(torch.unique(loss.detach())) == 1
    outputs = objective.outputs(call_of(model, condition=told))
    assert bool(outputs["paired"].all())
    wanted = squared_mmd(outputs["made"], outputs["real"], paired=True)
    torch.testing.assert_close(loss[0], wanted, rtol=1e-12, atol=0)


def test_what_cannot_be_compared_is_refused():
    model = denoiser()
    with pytest.raises(AnydiffError, match=r"of 1 samples and 1 examples.*two at least; raise training.batch_size"):
        MMD(2).loss(call_of(model, rows=1))
    weights = Conditioning(loss_weight=torch.ones(6, 2))
    with pytest.raises(AnydiffError, match="cannot be left out by loss_weight"):
        MMD(2).loss(call_of(model, condition=weights))

    class Detached(MMD):
        def features(self, states):
            return states.detach().flatten(1)

    class Broken(MMD):
        def features(self, states):
            return states.flatten(1) / 0.0

    with pytest.raises(AnydiffError, match="no gradient flows through the features of Detached"):
        Detached(2).loss(call_of(model))
    with pytest.raises(AnydiffError, match=r"the features of samples .* must be finite"):
        Broken(2).loss(call_of(model))
    with pytest.raises(UnknownNameError, match="unknown kernel 'rbv'; did you mean 'rbf'"):
        MMD(2, kernel="rbv")
    with pytest.raises(AnydiffError, match="must be positive"):
        MMD(2, gamma=[0.0])
    assert replace(UNCONDITIONAL).given == {}
