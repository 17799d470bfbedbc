"""Small laws of classes, and the exact laws of what plans draw of them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from anydiff import samplers
from anydiff.denoisers.table import TableOracle
from anydiff.paths import CategoricalPath
from anydiff.solvers.plan import Plan
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


def sampled_law(path: CategoricalPath, plan: Plan, law: Tensor) -> Tensor:
    """The exact law ``[K ** L]`` of the plan's samples, the denoiser being exact."""
    return samplers.sampled_law(TableOracle(path, spec(law.ndim, path.bound), law), plan).flatten()


def distance(one: Tensor, two: Tensor) -> float:
    """Total variation."""
    return float((one.flatten() - two.flatten()).abs().sum() / 2)
