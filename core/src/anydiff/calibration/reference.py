"""What a search compares with: the exact flow of a model from given noises, at the nodes of a plan and at its end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers import bent
from anydiff.errors import AnydiffError, NonFiniteError
from anydiff.paths.base import GaussianPath
from anydiff.samplers import PlanSampler, SampleRequest
from anydiff.samplers.sampler import Chunk, given_layers
from anydiff.solvers import DPMSolverPP, Plan, Snapshot, Start, Step, advance, build_plan, execute, resume
from anydiff.states import StateSpec

#: About so many steps has the plan that stands for the exact flow.
FINE = 100


def refined(path: GaussianPath, nodes: Sequence[float], steps: int = FINE) -> list[float]:
    """``nodes`` with about ``steps`` steps between them, of equal length in sqrt(u), u = σ/(α + σ)."""

    def place(t: float) -> float:
        return math.sqrt(1 / (1 + math.exp(path.log_snr(t))))

    places = [place(t) for t in nodes]
    grid = [nodes[0]]
    for (s, t), (first, last) in zip(itertools.pairwise(nodes), itertools.pairwise(places), strict=True):
        count = max(2, round(steps * (first - last) / (places[0] - places[-1])))
        for k in range(1, count):
            u = (first + (last - first) * k / count) ** 2
            inner = path.time(math.log1p(-u) - math.log(u))
            if t < inner < grid[-1] and inner < s:
                grid.append(inner)
        grid.append(t)
    return grid


@dataclass
class Trials:
    """Runs of plans from one set of noises, with the network calls that they cost.

    Attributes:
        denoiser: of the model, without guidance.
        spec: what one sample is.
        request: how many samples from which streams, under which conditions and guidance.
        nodes: times at which the exact trajectory is wanted; all at once, so that it is travelled once.
        calls: network calls so far, of all rows together each; those of the exact trajectory count for each entry.
    """

    denoiser: Denoiser
    spec: StateSpec
    request: SampleRequest
    nodes: Sequence[float] = ()
    calls: int = 0
    _fine: tuple[dict[float, Tensor], Tensor, int] | None = field(default=None, repr=False)
    _charged: bool = field(default=False, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def guided(self) -> bool:
        """Whether a guidance bends the flow."""
        return bent(self.denoiser, given_layers(self.request.guidance))

    def begin(self) -> None:
        """Count from 0 again: an entry begins. It bears what it shares with others, so that no order matters."""
        self.calls, self._charged = 0, False

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gave when it was first asked for under this name."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def chunk(self, plan: Plan, start: Start | None = None) -> Chunk:
        """The rows on their way, guidance around their denoiser; all in one. ``start``: in place of the request's."""
        request = replace(self.request, batch_size=1 << 20, start=start or self.request.start)
        return next(iter(PlanSampler(plan).chunks(request, self.denoiser, self.spec)))

    def run(self, plan: Plan, start: Start | None = None) -> Tensor:
        """The samples of a plan ``[n, *shape]``; infinite where it overflows, so that such a candidate never wins."""
        chunk = self.chunk(plan, start)
        self.calls += plan.nfe
        try:
            return execute(plan, chunk.denoiser, chunk.first, noise=chunk.noise, condition=chunk.condition)
        except NonFiniteError:
            return torch.full_like(chunk.first, float("inf"))

    def advance(self, plan: Plan, until: int, begun: Snapshot | None = None) -> Snapshot:
        """The run of ``plan`` stopped before instruction ``until``."""
        chunk = self.chunk(plan)
        made = advance(plan, chunk.denoiser, begun or chunk.first, until, noise=chunk.noise, condition=chunk.condition)
        self.calls += made.calls - (begun.calls if begun else 0)
        return made

    def resume(self, plan: Plan, begun: Snapshot) -> Tensor:
        """The samples of a plan from where a snapshot stands."""
        chunk = self.chunk(plan)
        self.calls += plan.nfe - begun.calls
        return resume(plan, chunk.denoiser, begun, noise=chunk.noise, condition=chunk.condition)

    def reference(self) -> tuple[Mapping[float, Tensor], Tensor]:
        """The states at :attr:`nodes` and the clean end of the exact flow; made once, by 2M on some 100 steps.

        Raises:
            AnydiffError: an end is not finite.
        """
        if self._fine is None:
            path = self.denoiser.gaussian_path
            wanted = {*self.nodes, path.t_start, path.t_end}
            plan = build_plan(DPMSolverPP(2), path, refined(path, sorted(wanted, reverse=True)))
            chunk, found = self.chunk(plan), dict[float, Tensor]()

            def note(step: Step) -> None:
                if step.t in wanted:
                    found[step.t] = step.state.clone()

            end = execute(
                plan, chunk.denoiser, chunk.first, noise=chunk.noise, condition=chunk.condition, callbacks=[note]
            )
            if not bool(torch.isfinite(end).all()):
                raise AnydiffError("the fine reference is not finite; weaken the guidance or check the network.")
            self._fine = (found, end, plan.nfe)
        if not self._charged:
            self.calls, self._charged = self.calls + self._fine[2], True
        return self._fine[:2]


def per_sample(states: Tensor, reference: Tensor) -> Tensor:
    """Mean squared distance of each sample, float64 ``[n]``."""
    return (states.double() - reference.double()).square().flatten(1).mean(1)
