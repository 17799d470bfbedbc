"""flow_matching (Meta): velocity networks u(x, t) with t from noise to data, on affine paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example, denoiser_of
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import ForeignNetwork
from anydiff.paths import Flow, Scheduled, foreign
from anydiff.states import Condition
from anydiff_adapters.libraries import imported

PREDICTS = {"velocity": ("flow", -1.0), "x1": ("data", 1.0), "epsilon": ("noise", 1.0)}
"""What a network predicts, in the library's words -> (our kind, sign)."""


def _call(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    output: Tensor = network(x=x, t=times, **given)
    return output


class FlowMatching(Adapter):
    """Networks ``u(x, t)`` of flow_matching, whose path (``AffineProbPath``, ``CondOTProbPath``) is the schedule."""

    def wrap(
        self,
        network: Any,
        schedule: Any = None,
        *,
        predicts: str = "velocity",
        shape: tuple[int, ...] | None = None,
        conditions: Mapping[str, Condition] | None = None,
        nulls: Mapping[str, Any] | None = None,
    ) -> NetworkDenoiser:
        """A denoiser of a velocity network.

        Args:
            network: called as ``network(x=x, t=t)``.
            schedule: its probability path, or the scheduler of that; the straight line (CondOT) by default.
            predicts: ``velocity``, ``x1`` (the data) or ``epsilon`` (the noise).
            shape: of a state.
            conditions: names of keywords -> kinds.
            nulls: names -> what stands for an absent condition.

        Raises:
            AnydiffError: another prediction, or a path that is not affine.
        """
        if predicts not in PREDICTS:
            raise AnydiffError(f"predicts is {predicts!r}, but must be one of {', '.join(PREDICTS)}.")
        scheduler = getattr(schedule, "scheduler", schedule)
        kind, sign = PREDICTS[predicts]
        if scheduler is not None and not callable(scheduler):
            raise AnydiffError(
                f"{type(schedule).__name__} is no affine path with a scheduler; give an AffineProbPath or a Scheduler."
            )
        straight = scheduler is None or type(scheduler).__name__ == "CondOTScheduler"
        path = Flow() if straight else Scheduled(_Turned(scheduler))
        made = ForeignNetwork(network, _call, conditions=conditions, nulls=nulls, sign=sign)
        return denoiser_of(made, foreign(path, "from-noise"), kind, shape=shape)  # type: ignore[arg-type]

    def example(self) -> Example:
        """A linear velocity on a polynomial path; the library's own change of prediction gives the data."""
        imported("flow_matching", "the example of flow_matching", "anydiff-adapters[flow-matching]")
        from flow_matching.path import AffineProbPath
        from flow_matching.path.scheduler import PolynomialConvexScheduler

        network, path = _Velocity(), AffineProbPath(PolynomialConvexScheduler(n=2.0))
        times = (0.1, 0.4, 0.7)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                time = torch.tensor([t], dtype=torch.float64)
                clean: Tensor = path.velocity_to_target(network(x, time.float()), x, time)
            return clean

        levels = []
        for t in times:
            made = path.scheduler(torch.tensor(t, dtype=torch.float64))
            levels.append((float(made.alpha_t), float(made.sigma_t)))
        return Example(network, path, torch.linspace(-1, 1, 12).reshape(3, 4), times, tuple(levels), data)


class _Turned:
    """A scheduler of the library, its time turned around: t = 0 is data."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        made = self.scheduler(1 - t)
        return made.alpha_t, made.sigma_t

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value:g}" for name, value in sorted(vars(self.scheduler).items())
                            if isinstance(value, (int, float)))  # fmt: skip
        return f"{type(self.scheduler).__name__}({options})"


class _Velocity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.linspace(-0.5, 0.5, 16).reshape(4, 4))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x @ self.get_buffer("matrix") + torch.cos(t.reshape(-1, 1))
