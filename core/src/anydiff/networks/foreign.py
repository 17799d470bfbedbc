"""Another library's network under our protocol: its own call, its names of conditions, its value for none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError
from anydiff.states import UNCONDITIONAL, Condition, Conditioning

Call = Callable[[nn.Module, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
"""(network, what it sees ``[B, *shape]``, times ``[B]``, conditions by our names) -> its output ``[B, *shape]``."""


class ForeignNetwork(nn.Module):
    """A network of another library, called as that library calls it.

    Args:
        network: the foreign module.
        call: how it is called.
        conditions: the conditions it reads, by our names.
        nulls: what stands for a condition that is absent: a class number, or a tensor of the shape of one row. Hiding
            a condition without such a value is refused.
        sign: factor on what it answers: -1 for a velocity from noise to data.
        whole_times: it takes whole times alone; others are refused, never rounded.
    """

    def __init__(
        self,
        network: nn.Module,
        call: Call,
        *,
        conditions: Mapping[str, Condition] | None = None,
        nulls: Mapping[str, Any] | None = None,
        sign: float = 1.0,
        whole_times: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.call = call
        self.conditions = dict(conditions or {})
        self.reads_conditions = tuple(self.conditions)
        self.nulls = dict(nulls or {})
        self.sign = sign
        self.whole_times = whole_times

    def forward(self, x: Tensor, told: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The network's prediction ``[B, *shape]`` at its own times ``told [B]``.

        Raises:
            AnydiffError: a condition is missing and has no value for none; a time between two that it knows; an
                answer of another shape.
        """
        if self.whole_times and not torch.equal(told, told.round()):
            raise AnydiffError(
                f"the network {type(self.network).__name__} takes whole times alone, but is asked at "
                f"{float(told[told != told.round()][0]):g}; sample on a grid of its own times (grid=[999, 749, 499])."
            )
        given = {name: self._given(name, condition, x) for name in self.conditions}
        output = self.call(self.network, x, told, given)
        if output.shape != x.shape:
            raise AnydiffError(
                f"the network {type(self.network).__name__} answers {tuple(output.shape)} to states of "
                f"{tuple(x.shape)}; give it states of a size that it was built for."
            )
        return output if self.sign == 1.0 else self.sign * output

    def _given(self, name: str, condition: Conditioning, x: Tensor) -> Tensor:
        value = condition.given.get(name)
        present = None if value is None else condition.presence(name)
        if value is not None and present is not None and bool(present.all()):
            return value
        if name not in self.nulls:
            raise AnydiffError(
                f"the network {type(self.network).__name__} reads the condition {name!r}, which is missing, and has no "
                f"value for none; give the condition, or wrap the network with nulls={{{name!r}: ...}}."
            )
        null = torch.as_tensor(self.nulls[name], device=x.device)
        null = null.expand(len(x), *null.shape)
        if value is None or present is None:
            return null
        rows = present.reshape(-1, *[1] * (value.ndim - 1))
        return torch.where(rows, value, null.to(value.dtype))
