"""One-step methods on the probability-flow ODE: Euler, Heun, midpoint and RK4 in time or κ, and EDM's sampler.

In time the ODE is dx/dt = α' D + σ' ε, which is the ``flow`` prediction; in y = x/α and κ = σ/α it is dy/dκ = ε, with
ε = (y - D)/κ (Song et al., ICLR 2021; Karras et al., NeurIPS 2022). Runge-Kutta methods in κ are DEIS's ρRK (Zhang and
Chen, ICLR 2023); the one of two stages that takes the slope at both ends is EDM's Heun.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from anydiff.errors import AnydiffError
from anydiff.solvers.base import Solver
from anydiff.solvers.exponential import checked_choice, checked_order, data_step
from anydiff.solvers.program import LinearForm, Node, Program


def _slope(x: LinearForm, data: LinearForm, node: Node) -> LinearForm:
    """dx/dt at ``node`` from the data prediction."""
    rate = node.gaussian.d_sigma(node.t) / node.sigma
    return rate * x + (node.gaussian.d_alpha(node.t) - node.alpha * rate) * data


@dataclass(frozen=True)
class Euler(Solver):
    """x_t = x_s + (t - s) dx/dt: first order, one call per step. On the flow path it equals DDIM."""

    order: ClassVar[int] = 1

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """One Euler step in time per pair of nodes: x + (t - s) dx/dt."""
        x = program.start()
        for s, t in itertools.pairwise(nodes):
            x = x + (t.t - s.t) * _slope(x, program.evaluate(x, s), s)
        return x


def _is_full(program: Program, index: int, steps: int) -> bool:
    """Whether step ``index`` of ``steps`` makes its second call.

    Within a budget of n calls the last step is an Euler step, as in EDM: its second slope would divide what the network
    gets wrong by the small noise of the last node. If n is even so is the first, which starts from nearly pure noise.
    """
    if program.budget is None:
        return True
    return index < steps - 1 and (index > 0 or program.budget >= 2 * steps - 1)


@dataclass(frozen=True)
class Heun(Solver):
    """x_t = x_s + (t - s)(k_1 + k_2)/2, k_2 the slope at the Euler step: second order, two calls per step.

    A budget of n calls is spent whole: the last step is an Euler step, and if n is even the first one too.
    """

    order: ClassVar[int] = 2
    calls_per_step: ClassVar[int] = 2

    def steps(self, nfe: int) -> int:
        """floor(nfe / 2) + 1."""
        return nfe // 2 + 1

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Heun steps in time; Euler steps where the budget lacks a call or the step ends without noise."""
        x = program.start()
        steps = len(nodes) - 1
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            first = _slope(x, program.evaluate(x, s), s)
            euler = x + (t.t - s.t) * first
            if _is_full(program, index, steps) and t.sigma > 0:
                # Of a copy, which becomes a register: the last row is in x, D_1, D_2 alone, one operand less to read.
                second = _slope(euler, program.evaluate(LinearForm(euler.terms), t), t)
                x = x + (t.t - s.t) / 2 * (first + second)
            else:
                x = euler
        return x


@dataclass(frozen=True)
class EDMHeun(Solver):
    """EDM's stochastic sampler (Karras et al. 2022, algorithm 2) in y = x/α and κ = σ/α: Heun after an optional churn.

    With γ = min(S_churn/N, √2 - 1) where S_min <= κ <= S_max, each step first adds noise up to κ̂ = κ (1 + γ), then goes
    to κ' by Heun. S_churn = 0 is deterministic and of order 2. The last step is an Euler step, and if the budget is
    even the first one too; a first step from κ = ∞ (flow at t = 1), where Heun in κ has no meaning, always is.
    """

    order: ClassVar[int] = 2
    calls_per_step: ClassVar[int] = 2
    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.churn < 0 or self.noise_scale < 0:
            raise AnydiffError(
                f"churn is {self.churn} and noise_scale is {self.noise_scale}, but neither may be negative."
            )

    def steps(self, nfe: int) -> int:
        """floor(nfe / 2) + 1."""
        return nfe // 2 + 1

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Per step: churn at its first node, then Heun in κ (Euler where the budget lacks a call)."""
        x = program.start()
        steps = len(nodes) - 1
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            x, s = self._churn(program, self.before_step(program, x, s, index, steps), s, steps)
            first = program.evaluate(x, s)
            ratio = t.sigma / s.sigma
            euler = ratio * x + (t.alpha - ratio * s.alpha) * first
            if _is_full(program, index, steps) and t.sigma > 0 and s.alpha > 0:
                # Of a copy, which becomes a register: the last row is in x, D_1, D_2 alone, one operand less to read.
                second = program.evaluate(LinearForm(euler.terms), t)
                # d/2 (ε_1 + ε_2) with ε_1 = (y - D_1)/κ at s and ε_2 = (y_E - D_2)/κ' at t.
                step = (t.noise_level - s.noise_level) / 2
                slope = (x / s.alpha - first) / s.noise_level + (euler / t.alpha - second) / t.noise_level
                x = t.alpha * (x / s.alpha + step * slope)
            else:
                x = euler
        return x

    def before_step(self, program: Program, x: LinearForm, s: Node, index: int, steps: int) -> LinearForm:
        """The state with which step ``index`` of ``steps`` begins, before its churn; by default as it is."""
        return x

    def _churn(self, program: Program, x: LinearForm, s: Node, steps: int) -> tuple[LinearForm, Node]:
        """Noise added up to κ (1 + γ): the state and the node there."""
        level = s.on_clock.noise_level
        gamma = min(self.churn / steps, math.sqrt(2) - 1) if self.churn_min <= level <= self.churn_max else 0.0
        if gamma == 0.0 or math.isinf(level):
            return x, s
        raised = s.moved(s.on_clock.at(s.on_clock.log_snr - math.log1p(gamma)))
        if s.clock is not None:
            gamma = math.expm1(s.log_snr - raised.log_snr)
        std = self.noise_scale * s.noise_level * math.sqrt(gamma * (2 + gamma))
        return raised.alpha * (x / s.alpha + std * program.noise()), raised


def spread(calls: int, steps: int) -> list[int]:
    """Calls of each of ``steps`` steps that spend ``calls`` together, evenly: the first ones have one less, if any.

    A step of one call among others of four loses more than all that these bring (measured: 113 times the error with 97
    calls instead of 96), and least is lost where the state is nearly noise.
    """
    each, more = divmod(calls, steps)
    return [max(each, 1)] * (steps - more) + [each + 1] * more


@dataclass(frozen=True)
class ClassicalRungeKutta(Solver):
    """Explicit Runge-Kutta methods of 2 (midpoint), 3 (Kutta) or 4 stages (RK4), in time or in κ.

    The order is the number of stages: midpoint (0, 1/2; weights 0, 1), Kutta (0, 1/2, 1; 1/6, 4/6, 1/6) and RK4 (0,
    1/2, 1/2, 1; 1/6, 2/6, 2/6, 1/6). NFE: one call per stage and ceil(n/stages) steps; if the stages do not divide the
    budget n, the calls are spread evenly (:func:`spread`): some first steps have one stage less, never one step alone
    all that are missing. The midpoint rule makes floor(n/2) steps, and of an odd n its last one is Kutta's, since a
    step of one stage would cost more than the call brings. A step that ends at clean data (σ = 0), where the slope is
    not known, has at most 2.

    Args:
        stages: calls of a step.
        variable: ``"time"``, as flow matching does, or ``"noise-level"`` (ρRK): dy/dκ = ε in y = x/α. In κ a step from
            pure noise is of first order.
    """

    stages: int = 4
    variable: str = "time"

    def __post_init__(self) -> None:
        checked_order("stages", self.stages, 4)
        checked_choice("variable", self.variable, ("time", "noise-level"))

    @property
    def order(self) -> int:
        """The number of stages."""
        return self.stages

    @property
    def calls_per_step(self) -> int:
        """The number of stages."""
        return self.stages

    def steps(self, nfe: int) -> int:
        """ceil(nfe / stages); floor(nfe / 2), but at least 1, for the midpoint rule."""
        return max(nfe // 2, 1) if self.stages == 2 else -(-nfe // self.stages)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """Explicit Runge-Kutta steps, with fewer stages where the budget or the end asks for it."""
        x = program.start()
        steps = len(nodes) - 1
        counts = [self.stages] * steps if program.budget is None else spread(program.budget, steps)
        for count, (s, t) in zip(counts, itertools.pairwise(nodes), strict=True):
            stages = min(count, 3 if self.stages == 2 else self.stages)
            stages = stages if t.sigma > 0 else min(stages, 2)
            if self.variable == "time":
                x = _runge_kutta_step(program, x, s, t, stages)
            elif s.alpha == 0:
                x = data_step(x, program.evaluate(x, s), s, t)
            else:
                x = _noise_level_step(program, x, s, t, stages)
        return x


#: For each number of stages: the rows of the matrix below the diagonal, and the weights.
_TABLEAUS: dict[int, tuple[list[list[float]], list[float]]] = {
    1: ([[]], [1.0]),
    2: ([[], [1 / 2]], [0.0, 1.0]),
    3: ([[], [1 / 2], [-1.0, 2.0]], [1 / 6, 4 / 6, 1 / 6]),
    4: ([[], [1 / 2], [0.0, 1 / 2], [0.0, 0.0, 1.0]], [1 / 6, 2 / 6, 2 / 6, 1 / 6]),
}


def _runge_kutta_step(program: Program, x: LinearForm, s: Node, t: Node, stages: int) -> LinearForm:
    """The step in time: slopes dx/dt."""
    rows, final = _TABLEAUS[stages]
    dt = t.t - s.t
    slopes: list[LinearForm] = []
    for row in rows:
        fraction = sum(row)
        node = t if fraction == 1 else program.node(s.t + fraction * dt)
        state = _advanced(x, dt, row, slopes)
        slopes.append(_slope(state, program.evaluate(state, node), node))
    return _advanced(x, dt, final, slopes)


def _noise_level_step(program: Program, x: LinearForm, s: Node, t: Node, stages: int) -> LinearForm:
    """The step in κ: slopes dy/dκ = ε."""
    rows, final = _TABLEAUS[stages]
    length = t.noise_level - s.noise_level
    slopes = [program.evaluate(x, s, "noise")]
    y = x / s.alpha
    for row in rows[1:]:
        fraction = sum(row)
        node = t if fraction == 1 else s.at(-math.log(s.noise_level + fraction * length))
        slopes.append(program.evaluate(node.alpha * _advanced(y, length, row, slopes), node, "noise"))
    return t.alpha * _advanced(y, length, final, slopes)


def _advanced(x: LinearForm, length: float, factors: Sequence[float], slopes: Sequence[LinearForm]) -> LinearForm:
    """x + length Σ factor slope."""
    for factor, slope in zip(factors, slopes, strict=True):
        x = x + length * factor * slope if factor else x
    return x


Midpoint = partial(ClassicalRungeKutta, stages=2)
RK4 = partial(ClassicalRungeKutta, stages=4)
RhoKutta = partial(ClassicalRungeKutta, stages=3, variable="noise-level")
RhoRK4 = partial(ClassicalRungeKutta, stages=4, variable="noise-level")
