"""azula: denoisers with a schedule of their own, which give the mean of p(x_0 | x_t)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example, denoiser_of
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import ForeignNetwork
from anydiff.paths import Scheduled, foreign
from anydiff.states import Condition
from anydiff_adapters.libraries import imported


def _call(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    mean: Tensor = network(x, times, **given).mean
    return mean


class Azula(Adapter):
    """Denoisers of azula: ``denoiser(x_t, t).mean`` with ``denoiser.schedule(t) = (α, σ)``, t in [0, 1]."""

    def wrap(
        self,
        network: Any,
        schedule: Any = None,
        *,
        shape: tuple[int, ...] | None = None,
        conditions: Mapping[str, Condition] | None = None,
        nulls: Mapping[str, Any] | None = None,
    ) -> NetworkDenoiser:
        """A denoiser of azula's denoiser.

        Args:
            network: with a ``schedule``.
            schedule: in place of the network's own.
            shape: of a state.
            conditions: names of keywords -> kinds.
            nulls: names -> what stands for an absent condition.

        Raises:
            AnydiffError: neither has a schedule.
        """
        found = schedule if schedule is not None else getattr(network, "schedule", None)
        if found is None:
            raise AnydiffError(
                f"{type(network).__name__} has no schedule, which says α and σ; wrap azula's denoiser and not its "
                "backbone, or give the schedule."
            )
        path = foreign(Scheduled(_Pair(found), t_start=1.0, t_end=0.0))
        return denoiser_of(
            ForeignNetwork(network, _call, conditions=conditions, nulls=nulls), path, "data", shape=shape
        )  # fmt: skip

    def example(self) -> Example:
        """A Karras denoiser of a linear backbone on a VP schedule."""
        imported("azula", "the example of azula", "anydiff-adapters[azula]")
        from azula.denoise import KarrasDenoiser
        from azula.noise import VPSchedule

        network = KarrasDenoiser(_Backbone(), VPSchedule()).eval()
        times = (0.2, 0.5, 0.8)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                mean: Tensor = network(x, torch.tensor(t)).mean
            return mean

        pairs = [network.schedule(torch.tensor(t, dtype=torch.float64)) for t in times]
        levels = tuple((float(alpha), float(sigma)) for alpha, sigma in pairs)
        return Example(network, None, torch.linspace(-1, 1, 12).reshape(3, 4), times, levels, data)


class _Pair:
    """azula's schedule as a function of float64 times."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.schedule(t)
        return alpha, sigma

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value:g}" for name, value in sorted(vars(self.schedule).items())
                            if isinstance(value, (int, float)))  # fmt: skip
        return f"{type(self.schedule).__name__}({options})"


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.linspace(-0.5, 0.5, 16).reshape(4, 4))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x @ self.get_buffer("matrix") + torch.cos(t.reshape(-1, 1))
