"""How the parameters of one group are moved: optimisers and schedules of the learning rate, looked up by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from anydiff.errors import UnknownNameError

Maker = Callable[[list[dict[str, Any]], "Optimiser", bool], torch.optim.Optimizer]


def _adamw(groups: list[dict[str, Any]], options: Optimiser, fused: bool) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)."""
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=options.betas, fused=fused)


def _sgd(groups: list[dict[str, Any]], options: Optimiser, fused: bool) -> torch.optim.Optimizer:
    """Stochastic gradient descent whose momentum is the first of ``betas``; the second is not used."""
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.betas[0], fused=fused)


OPTIMISERS: dict[str, Maker] = {"adamw": _adamw, "sgd": _sgd}
"""Name -> maker of an optimiser from torch's groups of parameters, the options, and whether its step may be fused."""

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "cosine": lambda step, steps: 0.5 * (1 + math.cos(math.pi * step / steps)),
}
"""Name -> factor of the learning rate of the step that follows ``step`` finished ones of ``steps``."""


@dataclass(frozen=True)
class Optimiser:
    """What moves the parameters of one group.

    Attributes:
        name: one of :data:`OPTIMISERS`.
        learning_rate: after the warm-up.
        weight_decay: of matrices and kernels; never of biases, norms and null embeddings.
        betas: decays of the averages of the gradient and of its square.
        schedule: one of :data:`SCHEDULES`.
        warmup_steps: steps over which the learning rate rises linearly from zero.

    Raises:
        UnknownNameError: no such optimiser or schedule.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: str = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.name not in OPTIMISERS:
            raise UnknownNameError("optimiser", self.name, OPTIMISERS)
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of the step that follows ``step`` finished ones of ``steps``: a pure function of them."""
        rate = self.learning_rate * SCHEDULES[self.schedule](step, steps)
        return rate * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else rate

    def make(self, parameters: Sequence[nn.Parameter], precision: str) -> torch.optim.Optimizer:
        """The optimiser of ``parameters``."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        # The loss scaler of 16-mixed and a fused step cannot both unscale the gradients that are clipped in between.
        fused = precision != "16-mixed"
        return OPTIMISERS[self.name]([group for group in groups if group["params"]], self, fused)
