"""The ratios of DC-Solver: step by step, each the one that brings the next state nearest to the exact trajectory.

Zhao et al., ECCV 2024 (arXiv 2409.03755); the method is :mod:`anydiff.solvers.dc_solver`. The paper descends along
gradients, 40 steps for each ratio; here a bounded scalar search of a dozen candidates does, as the loss is a function
of one number. A candidate costs one network call (the one that the corrector needs): the calls before it are shared.
Greedy ratios overfit few noises, so :func:`anydiff.calibration.calibrate` validates them on fresh ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anydiff.calibration.reference import Trials, per_sample
from anydiff.calibration.search import Found, Method, Spending, bounded_minimum
from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError, natural_number
from anydiff.paths import time_grid
from anydiff.paths.path import Path
from anydiff.solvers import Plan, Solver, build_plan, shared
from anydiff.solvers.dc_solver import BASES, NODES

LOW, HIGH = 0.3, 2.0
"""Between which the ratios are searched."""


@dataclass(frozen=True)
class DCSolver(Method):
    """Ratios for ``unipc-2``, ``dpm-solver++-2m`` or ``velocity-adams``.

    Args:
        base: the method that is compensated.
        on: the time grid; None for the path's own.
        candidates: ratios that are tried at each step.
    """

    name: ClassVar[str] = "dc"
    base: str = "unipc-2"
    on: str | None = "log-snr"
    candidates: int = 12

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise UnknownNameError("base of DC-Solver", self.base, BASES)
        natural_number("candidates", self.candidates, minimum=4)

    @property
    def grid(self) -> str | None:
        """As ``on`` says."""
        return self.on

    def solver(self, values: Mapping[str, NDArray[Any]]) -> Solver:
        """The compensated method."""
        return BASES[self.base](ratios=tuple(float(each) for each in values["ratios"]) if values else ())

    def plan(self, values: Mapping[str, NDArray[Any]], path: Path, nfe: int, guided: bool = False) -> Plan:
        """As :meth:`Method.plan`; one ratio for each call."""
        if values and len(values["ratios"]) != nfe:
            raise AnydiffError(f"there are {len(values['ratios'])} ratios for {nfe} calls; give one for each.")
        return super().plan(values, path, nfe, guided)

    def search(self, trials: Trials, nfe: int, spending: Spending) -> Found:
        """One ratio after the other; the first two steps have none.

        Raises:
            NotApplicableError: no step can be compensated.
        """
        if nfe < NODES:
            raise NotApplicableError(
                f"nfe is {nfe}, but DC-Solver compensates from step {NODES} on; ask for at least {NODES} network calls."
            )
        path = trials.denoiser.path
        nodes = time_grid(path, nfe, self.on)
        states, end = trials.reference()
        ratios: list[float] = [1.0] * min(NODES - 1, nfe)
        baseline = float(per_sample(trials.run(self._plan(trials, nodes, [])), end).mean())
        score = baseline
        begun = None
        for step in range(NODES - 1, nfe):
            last = step == nfe - 1
            part, target = nodes[: step + 2], end if last else states[nodes[step + 1]]
            plain = self._plan(trials, part, ratios, closed=not last)
            other = self._plan(trials, part, [*ratios, 0.5], closed=not last)
            begun = trials.advance(plain, shared(plain, other), begun)

            def loss(ratio: float, part: list[float] = part, last: bool = last, begun: object = begun) -> float:
                spending.check(trials.calls)
                plan = self._plan(trials, part, [*ratios, ratio], closed=not last)
                return float(per_sample(trials.resume(plan, begun), target).mean())  # type: ignore[arg-type]  # noqa: B023

            ratio, score = bounded_minimum(loss, LOW, HIGH, 1.0, self.candidates)
            ratios.append(ratio)
            spending.tell(f"{nfe} calls, step {step + 1} of {nfe}: ratio {ratio:.3f}")
        values = {} if all(each == 1.0 for each in ratios) else {"ratios": np.array(ratios)}
        return Found(values, score, baseline)

    def _plan(self, trials: Trials, nodes: list[float], ratios: list[float], closed: bool = False) -> Plan:
        solver: Solver = BASES[self.base](ratios=tuple(ratios), closed=closed)
        if trials.guided:
            solver = solver.under_guidance()
        return build_plan(solver, trials.denoiser.path, nodes, "stop" if closed else "clean", len(nodes) - 1)
