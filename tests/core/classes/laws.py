"""Exact laws of samplers of classes, by pushing a distribution over all states through a plan's own instructions."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from anydiff.denoisers.table import TableOracle
from anydiff.paths import CategoricalPath
from anydiff.solvers.plan import Evaluate, Plan, Transition
from anydiff.solvers.transitions import LAWS
from anydiff.states import StateSpec

CLASSES, LENGTH = 3, 4


def spec(length: int = LENGTH, classes: int = CLASSES) -> StateSpec:
    return StateSpec.single((length,), kind="categorical", classes=classes)


def sequences(symbols: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


def law_p() -> Tensor:
    """p ∝ exp(1.5 cos(1 + 2a + 3b + 5c + 7d + ab + 2bc + 3cd)), K = 3, L = 4: ``[3, 3, 3, 3]``."""
    a, b, c, d = sequences(CLASSES, LENGTH).double().T
    law = torch.exp(1.5 * torch.cos(1 + 2 * a + 3 * b + 5 * c + 7 * d + a * b + 2 * b * c + 3 * c * d))
    return (law / law.sum()).reshape(*[CLASSES] * LENGTH)


def prior(path: CategoricalPath, states: Tensor) -> Tensor:
    """The probability of each of ``states`` at t = 1."""
    _, replaced, masked = path.marginal(1.0)
    single = torch.cat([replaced * path.law_tensor(states), torch.tensor([masked], dtype=torch.float64)])
    return single[states].prod(dim=1)


def sampled_law(path: CategoricalPath, plan: Plan, law: Tensor) -> Tensor:
    """The exact law ``[K ** L]`` of the plan's samples, the denoiser being exact."""
    length, classes = law.ndim, path.bound
    symbols = classes + 1 if path.masks else classes
    states = sequences(symbols, length)
    weights = prior(path, states)
    oracle = TableOracle(path, spec(length, classes), law)
    calls = [each for each in plan.instructions if isinstance(each, Evaluate)]
    steps = [each for each in plan.instructions if isinstance(each, Transition)]
    for call, step in zip(calls, steps, strict=True):
        there = weights > 0
        made = oracle.predict(states[there], call.t, call.kind)
        entries = LAWS[step.rule](states[there], made, **step.options)[..., :symbols]
        joint = weights[there][:, None]
        for place in range(length):
            joint = (joint[..., None] * entries[:, place][:, None, :]).flatten(1)
        weights = joint.sum(0)
    clean = (states < classes).all(dim=1)
    assert float(weights[~clean].sum()) < 1e-12, "masks are left"
    return weights[clean]


def distance(one: Tensor, two: Tensor) -> float:
    """Total variation."""
    return float((one.flatten() - two.flatten()).abs().sum() / 2)
