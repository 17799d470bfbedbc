"""Plans of mixed states: a solver of real numbers and ancestral steps of the classes share every network call.

The continuous leaves' plan is what the solver compiles for them alone. Its entries at categorical leaves mean nothing;
before the network sees a state, each categorical leaf is put there by a transition from the state at the node before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from anydiff.errors import NotApplicableError
from anydiff.paths.base import GaussianPath
from anydiff.paths.mixed import MixedPath
from anydiff.solvers.plan import Apply, Coefficient, Combine, Evaluate, Instruction, Noise, Plan, Transition

#: The operation that takes the continuous leaves out of a packed prediction (:mod:`anydiff.solvers.operations`).
NUMBERS = "numbers"


def compile_mixed(
    solver: str, path: MixedPath, grid: Sequence[float], end: str, build: Callable[[GaussianPath], Plan]
) -> Plan:
    """The plan of a mixed path.

    Args:
        solver: what the plan is called by.
        path: bound to the state.
        grid: the nodes.
        end: as for :func:`~anydiff.solvers.compile_plan`; ``clean`` takes the classes to t = 0 in the last step.
        build: the solver's plan on the path of the continuous leaves.

    Raises:
        NotApplicableError: the solver calls the network between nodes, or more than once at one.
    """
    plan = build(path.numbers)
    calls = [each for each in plan.instructions if isinstance(each, Evaluate)]
    visited = list(grid) if end == "denoise" else list(grid[:-1])
    if [each.t for each in calls] != visited or any(each.also for each in calls):
        raise NotApplicableError(
            f"{solver} calls the network other than once at each node, so the classes of {path!r} cannot follow; take "
            "a solver of one call per step: ddpm, ddim, euler, dpm-solver++-2m."
        )
    return _Merger(path, plan, [*visited, 0.0 if end == "clean" else grid[-1]], end).plan(solver, grid)


class _Merger:
    def __init__(self, path: MixedPath, plan: Plan, times: Sequence[float], end: str) -> None:
        self.path, self.numbers, self.times, self.end = path, plan, times, end
        self.out: list[Instruction] = []
        self.alias: dict[str, str] = {}
        self.calls = 0
        self.state = Plan.START

    def plan(self, solver: str, grid: Sequence[float]) -> Plan:
        for instruction in self.numbers.instructions:
            if isinstance(instruction, Evaluate):
                self._call(instruction)
            else:
                self.out.append(self._renamed(instruction))
        result = self._moved(self.alias.get(self.numbers.result, self.numbers.result))
        return Plan(solver, repr(self.path), tuple(grid), tuple(self.out), result)

    def _call(self, call: Evaluate) -> None:
        state = self.alias.get(call.state, call.state)
        if self.calls:
            state = self.alias[call.state] = self._moved(state)
        packed = f"P{self.calls}"
        self.out += [
            replace(call, out=packed, state=state),
            Apply(call.out, NUMBERS, (packed,), call.t, self._places()),
        ]
        self.state, self.calls = state, self.calls + 1

    def _moved(self, carrier: str) -> str:
        """The register of ``carrier`` with the classes drawn from those of the last state that the network saw."""
        spec, number = self.path.bound, self.calls - 1
        begin, until = self.times[number], self.times[number + 1]
        for leaf, path in self.path.classes:
            options: dict[str, Any] = {
                "classes": path.bound, "data": [float(p) for p in path.marginal(until)],
                "step": [float(p) for p in path.kernel(until, begin)], "seen": [float(p) for p in path.marginal(begin)],
                "places": [list(spec.offsets[leaf.name]), list(spec.prediction.offsets[leaf.name])],
            }  # fmt: skip
            rule = "posterior"
            if path.law is not None:
                options["law"] = list(path.law)
            if self.end == "denoise" and self.calls == len(self.times) - 1:
                rule, options = "most-likely", {name: options[name] for name in ("classes", "places")}
            out = f"{carrier}_{leaf.name}{self.calls}"
            self.out.append(Transition(out, rule, self.state, f"P{number}", self.calls, options, (carrier,)))
            carrier = out
        return carrier

    def _places(self) -> dict[str, Any]:
        spec = self.path.bound
        kept = [leaf for leaf in spec.leaves if not leaf.categorical]
        parts = [[spec.offsets[leaf.name][0], spec.prediction.offsets[leaf.name][0], leaf.size] for leaf in kept]
        return {"size": spec.size, "parts": parts}

    def _renamed(self, instruction: Instruction) -> Instruction:
        if isinstance(instruction, Combine):
            terms: dict[str, Coefficient] = {}
            for register, coefficient in instruction.terms:
                name, spread = self.alias.get(register, register), self._spread(coefficient)
                terms[name] = terms[name] + spread if name in terms else spread
            return replace(instruction, terms=tuple(terms.items()))
        if isinstance(instruction, Apply):
            return replace(instruction, inputs=tuple(self.alias.get(each, each) for each in instruction.inputs))
        assert isinstance(instruction, Noise)
        return instruction

    def _spread(self, coefficient: Coefficient) -> Coefficient:
        """A coefficient of the continuous leaves' own state, spread over the whole one."""
        if not isinstance(coefficient, np.ndarray):
            return coefficient
        spec, out, begin = self.path.bound, np.zeros(self.path.bound.size), 0
        for leaf in spec.leaves:
            if not leaf.categorical:
                first, last = spec.offsets[leaf.name]
                out[first:last] = coefficient.reshape(-1)[begin : begin + leaf.size]
                begin += leaf.size
        return out
