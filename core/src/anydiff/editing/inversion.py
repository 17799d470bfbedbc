"""Inversion: from any stochastic plan a second plan that solves for the noises with which the first one gives x_0.

A stochastic plan is a function of its start and of its draws. Where one of its rows brings in a draw z,

    r <- Σ_i a_i r_i + c z,

any value may be asked of the register r: z = (target - Σ_i a_i r_i)/c takes it up. r is then computed from z by the
row itself, so that the float arithmetic of a replay repeats itself. The inverted plan begins at the data x_0, holds
these rows beside the plan's own, and makes the plan's own network calls. What no draw takes up is the difference of
x_0 and the plan's result, the residual. Two trajectories of targets:

- ``independent``: α_t x_0 + σ_t ε with fresh noise ε at every register, t being where the network looks at it: the
  space of Huberman-Spiegelglas et al., "An edit friendly DDPM noise space" (CVPR 2024, arXiv 2304.06140);
- ``native``: what the plan itself reaches with D = x_0 and ordinary draws. On DDPM and DDIM(η) that is the posterior
  q(x_s | x_t, x_0) of DPM-Encoder (Wu and De la Torre, "Unifying diffusion models' latent space", arXiv 2210.05559);
  on any other plan it is what that posterior becomes.

The plan's result has x_0 itself as its target. No solver is named here: a plan is rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch

from anydiff.denoisers.kinds import conversion, known_weights, solved
from anydiff.errors import NotApplicableError, UnknownNameError
from anydiff.paths.base import GaussianPath, LinearPath, linear
from anydiff.paths.path import Path
from anydiff.solvers.plan import Apply, Coefficient, Combine, Evaluate, Instruction, Noise, Plan, Transition

Trajectory = Literal["independent", "native"]
KEEP = "keep"
"""The operation of inverted plans, of (z) with ``draw``: z, which whoever runs the plan keeps; draw 0 is the start."""
CLEAN = Plan.START
"""The register of an inverted plan that holds x_0, where it begins."""
BEGIN = "x_T"
"""The register of an inverted plan that holds the start of the plan."""


def inverted(
    plan: Plan, path: Path, trajectory: Trajectory = "independent", sigma_data: float = 1.0
) -> Plan:  # fmt: skip
    """The plan that begins at data and solves for the start and the draws of ``plan``; its result is that of ``plan``.

    Draw m of its own noise belongs to draw m of ``plan``, draw 0 to the start.

    Args:
        plan: stochastic.
        path: for which it was compiled.
        trajectory: of the targets; see the module.
        sigma_data: of the denoiser, for predictions of kind ``edm``.

    Raises:
        UnknownNameError: no such trajectory.
        NotApplicableError: a plan without a draw that counts, or one that draws classes.
    """
    if trajectory not in get_args(Trajectory):
        raise UnknownNameError("trajectory", trajectory, get_args(Trajectory))
    require_invertible(plan)
    return _Inversion(plan, linear(path, "an inversion"), trajectory, sigma_data).made()


def require_invertible(plan: Plan) -> None:
    """Refuse a plan whose noises no target can be asked of.

    Raises:
        NotApplicableError: as said; the sentence names what can be done instead.
    """
    if any(isinstance(row, Transition) for row in plan.instructions):
        raise NotApplicableError(
            f"{plan.solver} draws classes, which are no sums of noises that could be solved for; edit with the method "
            "'sdedit', or a recipe of real numbers."
        )
    draws = {row.out for row in plan.instructions if isinstance(row, Noise)}
    if not draws:
        raise NotApplicableError(
            f"{plan.solver} draws no noise on its way, so there is none to solve for; edit with the method 'ddib', "
            "which inverts the ODE, or take a stochastic solver: ddpm, sde-dpm-solver++-2m, or ddim with eta above 0."
        )
    if not any(
        draws & {name for name, c in row.terms if np.any(c)} for row in plan.instructions if isinstance(row, Combine)
    ):
        raise NotApplicableError(
            f"every draw of {plan.solver} has the coefficient 0 (eta is 0, say), so no target can be reached by it; "
            "raise eta, or edit with the method 'ddib', which inverts the ODE."
        )


def own_name(plan: Plan, path: LinearPath, register: str) -> str:
    """What ``register`` of ``plan`` is called in the inverted plan, where x_0 and the sources have their names too."""
    if register == Plan.START:
        return BEGIN
    given = register in plan.constants or register in plan.values
    return f"{register}'" if not given and register in (*path.named("known", "start"), CLEAN, BEGIN) else register


@dataclass
class _Inversion:
    """The rows of an inverted plan, as they are written down.

    Attributes:
        rows: so far.
        waiting: draws of the plan that nothing was asked of yet: register -> number.
        twins: of a native trajectory, the registers of the run with D = x_0, by those of the plan.
    """

    plan: Plan
    path: LinearPath
    trajectory: Trajectory
    sigma_data: float
    rows: list[Instruction] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)

    def made(self) -> Plan:
        plan, path = self.plan, self.path
        looked_at: dict[str, float] = {}
        for row in plan.instructions:
            if isinstance(row, Evaluate):
                looked_at.setdefault(row.state, row.t)
        self.rows.append(Noise("fresh0", 0))
        begin = self._target("at_T", plan.nodes[0], "fresh0")
        self.rows.append(Apply(BEGIN, KEEP, (begin,), plan.nodes[0], {"draw": 0}))
        fixed = (*plan.constants, *plan.values)
        self.twins = {Plan.START: BEGIN, **{name: name for name in fixed}}
        time = plan.nodes[0]
        for row in plan.instructions:
            time = row.t if isinstance(row, Evaluate | Apply) else time
            if isinstance(row, Noise):
                self.waiting[row.out] = row.draw
                continue
            self._add(row, looked_at, time)
        for draw in list(self.waiting):
            self._ordinary(draw, time)
        constants = tuple(dict.fromkeys((*plan.constants, *path.named("known", "start"))))
        return Plan(
            f"{self.trajectory} inversion of {plan.solver}", plan.path, plan.nodes, tuple(self.rows),
            self._name(plan.result), constants, plan.values,
        )  # fmt: skip

    def _add(self, row: Instruction, looked_at: Mapping[str, float], time: float) -> None:
        """A row of the plan, after what it needs."""
        native = self.trajectory == "native"
        if native:
            self._twin(row, time)
        draws = [name for name in row.inputs if name in self.waiting]
        if isinstance(row, Combine) and (native or row.out in looked_at or row.out == self.plan.result):
            chosen = _largest([(name, c) for name, c in row.terms if name in draws])
            for name in draws:
                if name != chosen:
                    self._ordinary(name, time)
            if chosen is not None:
                self._solve(row, chosen, looked_at.get(row.out, time))
        else:
            for name in draws:
                self._ordinary(name, time)
        self.rows.append(self._renamed(row))

    def _name(self, register: str) -> str:
        return own_name(self.plan, self.path, register)

    def _renamed(self, row: Instruction) -> Instruction:
        name = self._name
        if isinstance(row, Combine):
            return Combine(name(row.out), tuple((name(r), c) for r, c in row.terms))
        if isinstance(row, Evaluate):
            also = tuple((name(r), kind) for r, kind in row.also)
            return replace(row, out=name(row.out), state=name(row.state), also=also)
        assert isinstance(row, Apply)
        return replace(row, out=name(row.out), inputs=tuple(map(name, row.inputs)))

    def _ordinary(self, register: str, time: float) -> None:
        """The draw as the plan's own run makes it."""
        number, name = self.waiting.pop(register), self._name(register)
        drawn = self.twins.get(register)
        if drawn is None:
            drawn = f"fresh{number}"
            self.rows.append(Noise(drawn, number))
        self.rows.append(Apply(name, KEEP, (drawn,), time, {"draw": number}))

    def _solve(self, row: Combine, register: str, time: float) -> None:
        """The draw that takes ``row`` to its target."""
        number, name = self.waiting.pop(register), self._name(register)
        if row.out == self.plan.result:
            target = CLEAN
        elif self.trajectory == "native":
            target = self.twins[row.out]
        else:
            self.rows.append(Noise(f"fresh{number}", number))
            target = self._target(f"at_{row.out}", time, f"fresh{number}")
        coefficient = dict(row.terms)[register]
        share = _inverse(coefficient)
        rest = [(self._name(r), -c * share) for r, c in row.terms if r != register]
        self.rows.append(Combine(f"{name}_found", _added_up([(target, share), *rest])))
        self.rows.append(Apply(name, KEEP, (f"{name}_found",), time, {"draw": number}))

    def _target(self, out: str, t: float, noise: str) -> str:
        """The path's state at ``t``, of x_0, of what is given and of a noise."""
        found = self.path.coefficients(torch.tensor(t, dtype=torch.float64))
        registers = {"clean": CLEAN, "noise": noise}
        terms = [(registers.get(role, name), _plain(found[name])) for name, role in self.path.sources.items()]
        self.rows.append(Combine(out, _added_up(terms)))
        return out

    def _twin(self, row: Instruction, time: float) -> None:
        """The same row in the run with D = x_0 and ordinary draws."""
        for name in row.inputs:
            if name in self.waiting and name not in self.twins:
                self.twins[name] = f"fresh{self.waiting[name]}"
                self.rows.append(Noise(self.twins[name], self.waiting[name]))
        if isinstance(row, Evaluate):
            for out, kind in zip(row.outs, row.kinds, strict=True):
                self._twin_prediction(out, row, kind)
            return
        out = self.twins[row.out] = f"{self._name(row.out)}_native"
        if isinstance(row, Combine):
            self.rows.append(Combine(out, _added_up([(self.twins[r], c) for r, c in row.terms])))
        elif isinstance(row, Apply):
            self.rows.append(replace(row, out=out, inputs=tuple(self.twins[r] for r in row.inputs)))

    def _twin_prediction(self, out: str, row: Evaluate, kind: str) -> None:
        if kind == "data":
            self.twins[out] = CLEAN
            return
        state = self.twins[row.state]
        self.twins[out] = f"{self._name(out)}_native"
        if isinstance(self.path, GaussianPath):
            p, q = conversion(self.path, row.t, "data", kind, self.sigma_data)
            known = known_weights(self.path, row.t, "data", kind, self.sigma_data) if self.path.known else {}
        else:
            p, (q,), known = solved(self.path, row.t, ("data",), kind, self.sigma_data)
        terms = [(state, _plain(p)), (CLEAN, _plain(q)), *((name, _plain(w)) for name, w in known.items())]
        self.rows.append(Combine(self.twins[out], _added_up(terms)))


def _largest(terms: list[tuple[str, Coefficient]]) -> str | None:
    """The register of the largest coefficient that is not 0, if there is one."""
    counted = [(float(np.abs(c).mean()), name) for name, c in terms if np.any(c)]
    return max(counted)[1] if counted else None


def _inverse(coefficient: Coefficient) -> Coefficient:
    """1/c; 0 at entries that the draw does not reach."""
    if not isinstance(coefficient, np.ndarray):
        return 1 / coefficient
    return np.divide(1.0, coefficient, out=np.zeros_like(coefficient), where=coefficient != 0)


def _added_up(terms: list[tuple[str, Coefficient]]) -> tuple[tuple[str, Coefficient], ...]:
    """One term per register."""
    found: dict[str, Coefficient] = {}
    for name, c in terms:
        found[name] = found[name] + c if name in found else c
    return tuple(found.items())


def _plain(value: object) -> Coefficient:
    """A number, or one number per entry of a sample."""
    array = np.asarray(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array[0]
