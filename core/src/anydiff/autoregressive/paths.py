"""Paths of stochastic plans: what is drawn from noise to sample, and its log-probability under any denoiser.

A step of a stochastic plan is a Combine with one noise draw in it: its other terms are the mean of the step, the
coefficient of the noise is the deviation. So the log-probability of a path is read from the plan, whichever solver
compiled it. Along a path that is known, all states are known, and a denoiser is asked of them in one batched call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anydiff.autoregressive.speculative import Pair
from anydiff.denoisers.base import Denoiser
from anydiff.errors import NotApplicableError
from anydiff.solvers.executor import DrawsNoise
from anydiff.solvers.plan import Combine, Evaluate, Noise, Plan
from anydiff.states import UNCONDITIONAL, Conditioning


@dataclass(frozen=True)
class DrawnPath:
    """The states of a path by the registers of its plan, each ``[B, *shape]``: the start and what each step drew."""

    states: dict[str, Tensor]

    def end(self, plan: Plan) -> Tensor:
        """The sample."""
        return self.states[plan.result]


class PathLaw:
    """The law of paths of a plan under a denoiser.

    Args:
        plan: stochastic, to its last step.
        denoiser: of the plan's path.
        condition: of the rows.

    Raises:
        AnydiffError: the plan is deterministic, ends without noise, or has other instructions than sums.
    """

    def __init__(self, plan: Plan, denoiser: Denoiser, condition: Conditioning = UNCONDITIONAL) -> None:
        self.plan, self.denoiser, self.condition = plan, denoiser, condition
        self.noises = {each.out: each.draw for each in plan.instructions if isinstance(each, Noise)}
        self.steps = [each for each in plan.instructions if isinstance(each, Combine) and self._noise(each)]
        plain = all(isinstance(each, Evaluate | Combine | Noise) for each in plan.instructions)
        arrays = any(isinstance(c, np.ndarray) for each in self.steps for _, c in each.terms)
        if not self.steps or self.steps[-1].out != plan.result or not plain or arrays:
            raise NotApplicableError(
                f"the plan of {plan.solver} {'draws no noise' if not self.steps else 'ends in a step without noise'}, "
                "so its paths have no densities to compare; take a stochastic solver of one noise per step (ddpm, say) "
                "with end='stop'."
            )

    def draw(self, start: Tensor, noise: DrawsNoise, samples: Sequence[int]) -> DrawnPath:
        """A path from ``start [B, *shape]`` with the samples' own noise."""
        drawn = {name: noise.draw(samples, number, start.dtype, start.device) for name, number in self.noises.items()}
        states = {Plan.START: start}
        registers = self._walk(start, lambda step, mean, deviation: mean + deviation * drawn[self._noise(step)], {})
        states.update({step.out: registers[step.out] for step in self.steps})
        return DrawnPath(states)

    def log_prob(self, path: DrawnPath) -> Tensor:
        """log of the density of the path given its start, up to what all denoisers share: float64 ``[B]``."""
        total = torch.zeros(len(path.states[Plan.START]), dtype=torch.float64)

        def known(step: Combine, mean: Tensor, deviation: float) -> Tensor:
            value = path.states[step.out]
            total.sub_(((value - mean).double() / deviation).square().flatten(1).sum(1).cpu() / 2)
            return value

        self._walk(path.states[Plan.START], known, self._along(path))
        return total

    def _walk(
        self, start: Tensor, step: Callable[[Combine, Tensor, float], Tensor], made: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run the plan, with ``step`` for what is stochastic; predictions that are ``made`` are not made again."""
        registers: dict[str, Tensor] = {Plan.START: start}
        for each in self.plan.instructions:
            if isinstance(each, Evaluate):
                found = made.get(each.out)
                registers[each.out] = self._predict(registers[each.state], each.t, each) if found is None else found
            elif isinstance(each, Combine):
                noise = self._noise(each)
                terms = [float(c) * registers[name] for name, c in each.terms if name != noise]
                mean = sum(terms[1:], terms[0])
                deviation = float(dict(each.terms)[noise]) if noise else 0.0
                registers[each.out] = step(each, mean, deviation) if noise else mean
        return registers

    def _along(self, path: DrawnPath) -> dict[str, Tensor]:
        """The predictions at the states of a path, of each kind in one call for all times."""
        found: dict[str, Tensor] = {}
        calls = [e for e in self.plan.instructions if isinstance(e, Evaluate) and e.state in path.states]
        for kind in {each.kind for each in calls}:
            same = [each for each in calls if each.kind == kind]
            states = torch.cat([path.states[each.state] for each in same])
            rows = len(states) // len(same)
            times = torch.tensor([each.t for each in same], dtype=torch.float64).repeat_interleave(rows)
            condition = Conditioning.joined([self.condition] * len(same)) if self.condition else self.condition
            made = self.denoiser.predict(states, times.to(states.device), kind, condition)  # type: ignore[arg-type]
            found.update({each.out: part for each, part in zip(same, torch.split(made, rows), strict=True)})
        return found

    def _predict(self, state: Tensor, t: float, call: Evaluate) -> Tensor:
        return self.denoiser.predict(state, t, call.kind, self.condition)  # type: ignore[arg-type]

    def _noise(self, step: Combine) -> str:
        """The register of the step's noise; nothing where it has none, or more than one."""
        names = [name for name, _ in step.terms if name in self.noises]
        return names[0] if len(names) == 1 else ""


class PathPair(Pair[DrawnPath]):
    """Target and draft of a diffusion, compared path by path: exact where densities of samples are not known.

    Args:
        target: the law of the target's paths.
        draft: that of the draft's, of the same plan.
        begin: attempt -> start and noise of the target's own draws.
        samples: the index of each row.

    Raises:
        AnydiffError: the plans differ.
    """

    def __init__(
        self,
        target: PathLaw,
        draft: PathLaw,
        begin: Callable[[int], tuple[Tensor, DrawsNoise]],
        samples: Sequence[int],
    ) -> None:
        if target.plan != draft.plan:
            raise NotApplicableError(
                f"the target's plan is {target.plan.solver} with {target.plan.nfe} calls, the draft's "
                f"{draft.plan.solver} with {draft.plan.nfe}; paths are compared step by step, so give both one plan."
            )
        self.target, self.draft, self.begin, self.samples = target, draft, begin, samples

    def log_ratio(self, x: DrawnPath) -> Tensor:
        """See :meth:`Pair.log_ratio`; starts have one law, and deviations are the plan's, so both cancel."""
        return self.target.log_prob(x) - self.draft.log_prob(x)

    def redraw(self, attempt: int) -> DrawnPath:
        """See :meth:`Pair.redraw`."""
        start, noise = self.begin(attempt)
        return self.target.draw(start, noise, self.samples)

    def where(self, rows: Tensor, x: DrawnPath, other: DrawnPath) -> DrawnPath:
        """See :meth:`Pair.where`."""
        return DrawnPath(
            {
                name: torch.where(rows.reshape(-1, *[1] * (value.ndim - 1)), value, other.states[name])
                for name, value in x.states.items()
            }
        )
