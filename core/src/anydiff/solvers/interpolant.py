"""ODE and SDE sampling of stochastic interpolants (Albergo et al. 2023, arXiv 2303.08797), ε chosen after training.

In the library's time (t falls from start to data) the kind ``flow`` is dx/dt, so the paper's velocity is b = -flow. A
step of length h from t to t - h is

    x <- x + h (b + ε s) + sqrt(2 ε h) ξ,   b = -flow, s the score, ε = ε(u) >= 0 at u = 1 - t/t_start;

ε = 0 is the ODE. With ε = g²/2 on an ordinary path it is the classical reverse SDE. Velocity and score come from one
network call. A step from where there is no noise (the start itself) is one of the ODE, since there is no score; the
last step adds no noise, since nothing would remove it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.solvers.base import Solver
from anydiff.solvers.program import LinearForm, Node, Program

METHODS = {"euler": 1, "heun": 2, "rk4": 4}
REVERSE_SDE = "reverse-sde"


@dataclass(frozen=True)
class InterpolantSolver(Solver):
    """The ODE or the SDE of any path whose velocity is predicted; see the module.

    Args:
        epsilon: ε, a number of at least 0, a function of u in [0, 1], or ``"reverse-sde"``: g²/2 on an ordinary path.
        method: ``euler`` (the SDE's too), ``heun`` or ``rk4``, for the ODE alone.

    Raises:
        UnknownNameError: no such method.
        AnydiffError: ε is negative, or not 0 with ``heun`` or ``rk4``.
    """

    epsilon: float | str | Callable[[float], float] = 0.0
    method: str = "euler"
    preferred_grid: ClassVar[str | None] = "time"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("method", self.method, METHODS)
        if isinstance(self.epsilon, str) and self.epsilon != REVERSE_SDE:
            raise UnknownNameError("epsilon", self.epsilon, [REVERSE_SDE])
        if isinstance(self.epsilon, (int, float)) and not 0 <= self.epsilon < math.inf:
            raise AnydiffError(f"epsilon is {self.epsilon}, but must be a finite number of at least 0 (0 is the ODE).")
        if self.epsilon != 0.0 and self.method != "euler":
            raise AnydiffError(f"method is {self.method!r}, which solves the ODE, but epsilon is not 0; use euler.")

    @property
    def order(self) -> int:
        """Of the ODE method; 1 for the SDE."""
        return METHODS[self.method]

    @property
    def calls_per_step(self) -> int:
        """Stages of the method."""
        return METHODS[self.method]

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """One row per step, or the stages of the Runge-Kutta method."""
        x = program.start()
        for index, (t, s) in enumerate(itertools.pairwise(nodes)):
            if self.method != "euler":
                x = _runge_kutta(program, x, t, s, METHODS[self.method])
                continue
            h = t.t - s.t
            epsilon = self._epsilon(t, nodes[0].t) if t.noise > 0 else 0.0
            if epsilon == 0.0:
                x = x - h * program.evaluate_several(x, t, ["flow"])[0]
                continue
            flow, score = program.evaluate_several(x, t, ["flow", "score"])
            x = x - h * flow + h * epsilon * score
            if index < len(nodes) - 2:
                x = x + math.sqrt(2 * epsilon * h) * program.noise()
        return x

    def _epsilon(self, t: Node, first: float) -> float:
        if self.epsilon == REVERSE_SDE:
            return t.gaussian.squared_diffusion(t.t) / 2
        if not callable(self.epsilon):
            return float(self.epsilon)
        u = 1 - t.t / first
        value = float(self.epsilon(u))
        if not 0 <= value < math.inf:
            raise AnydiffError(f"epsilon({u:g}) is {value}, but must be a finite number of at least 0.")
        return value


def _runge_kutta(program: Program, x: LinearForm, t: Node, s: Node, stages: int) -> LinearForm:
    """One step of Heun's method or of the classical Runge-Kutta method."""
    h = s.t - t.t

    def slope(y: LinearForm, time: float) -> LinearForm:
        return program.evaluate_several(y, program.node(time), ["flow"])[0]

    first = slope(x, t.t)
    if stages == 2:
        return x + h / 2 * (first + slope(x + h * first, s.t))
    second = slope(x + h / 2 * first, t.t + h / 2)
    third = slope(x + h / 2 * second, t.t + h / 2)
    return x + h / 6 * (first + 2 * second + 2 * third + slope(x + h * third, s.t))
