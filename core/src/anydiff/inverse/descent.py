"""Optimisation with a denoiser: noise a state, one network call, one step; for inverse problems and for refinement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Gradient = Callable[[Tensor, Tensor, float], Tensor]
"""(state ``[B, *shape]``, unit noise, time) -> what is descended, ``[B, *shape]``; one network call."""
Step = Callable[[int, Tensor, Tensor], Tensor]
"""(number of the step, state, gradient) -> the next state."""


def descend(
    start: Tensor, times: Sequence[float], gradient: Gradient, step: Step, draw: Callable[[int], Tensor]
) -> Tensor:
    """The state after one step at each of ``times``, from ``start [B, *shape]``.

    Args:
        start: where it begins; it is not changed.
        times: noise levels in their order.
        gradient: what is descended, at a state noised by ``draw``.
        step: gradient descent, Adam, a Langevin step.
        draw: unit noise of step k, ``[B, *shape]``, from the samples' own streams.
    """
    state = start.detach()
    for number, t in enumerate(times):
        state = step(number, state, gradient(state, draw(number), t).detach())
    return state


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015), entry by entry, so that no row depends on another.

    Attributes:
        rate: step size.
        decay: of the mean of the gradients.
        square_decay: of the mean of their squares.
    """

    rate: float
    decay: float = 0.9
    square_decay: float = 0.99
    _mean: Tensor | float = 0.0
    _square: Tensor | float = 0.0

    def __call__(self, number: int, state: Tensor, gradient: Tensor) -> Tensor:
        """The next state."""
        self._mean = self.decay * self._mean + (1 - self.decay) * gradient
        self._square = self.square_decay * self._square + (1 - self.square_decay) * gradient.square()
        mean = torch.as_tensor(self._mean / (1 - self.decay ** (number + 1)))
        square = torch.as_tensor(self._square / (1 - self.square_decay ** (number + 1)))
        return state - self.rate * mean / (square.sqrt() + 1e-8)
