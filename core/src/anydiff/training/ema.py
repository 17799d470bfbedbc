"""Exponential moving average of the weights, with its counter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.training.weights import load_into


class EMA:
    """Averaged weights: a_n = d_n a_{n-1} + (1 - d_n) w_n, d_n = min(decay, (1 + n)/(10 + n)), n the counter.

    The growing decay forgets the initial weights at the same relative rate at every n, so short trainings are averaged
    as well; the counter is a part of the state, or a resumed average would warm up again. Averages of half-precision
    parameters are kept in float32; buffers are copied.

    Args:
        module: whose ``state_dict`` is averaged, under the same names.
        decay: the greatest decay, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.counter = 0
        self._module = module
        self.tensors = {name: _wide(tensor.detach()).clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's present weights into the average."""
        self.counter += 1
        decay = min(self.decay, (1 + self.counter) / (10 + self.counter))
        averages, weights = [], []
        for name, tensor in self._module.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.tensors[name])
                weights.append(tensor.to(self.tensors[name].dtype))
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The counter and the averages."""
        return {"counter": self.counter, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.counter = int(state["counter"])
        for name, tensor in self.tensors.items():
            tensor.copy_(state["tensors"][name])

    def copy_to(self, module: nn.Module) -> None:
        """Write the averages into ``module``."""
        load_into(module, self.tensors, "the averaged weights")


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
