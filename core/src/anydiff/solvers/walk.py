"""Walks: plans that correct every data prediction, and that may go up again, on one grid.

Restoration methods differ in four moves, each a row or two of a plan, with D the data prediction at the node t and
e = (x_t - α_t D)/σ_t the direction to the noise:

- *down* to s: x_s = α_s D' + sqrt(σ_s² - c²) e + c z, with D' a corrected D (an operation, "Apply") and c the noise:
  c = η σ_s sqrt(1 - e^{-2h}) of DDIM(η), or c = η σ_s of DDNM. The direction e stays that of the network's own D
  (``kept``), or follows D' (``recomputed``).
- *up* from t to s: one step of the forward process, x_s = (α_s/α_t) x_t + sqrt(σ_s² - (α_s σ_t/α_t)²) z.
- *rise* from t to s: DDIM inversion, x_s = α_s D + σ_s e.
- *paste*: an operation on the state before the network sees it (RePaint's known entries, noised to this node).

The last node is one of the walk, too: there D' is the sample, at the cost of one call. Without any operation a walk
straight down is DDIM(η) that ends with a full jump, so that without a measurement nothing changes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from anydiff.errors import AnydiffError, UnknownNameError, natural_number, real_number
from anydiff.paths.base import GaussianPath, LinearPath
from anydiff.paths.grids import time_grid
from anydiff.paths.product import ProductPath
from anydiff.solvers.plan import Plan
from anydiff.solvers.program import LinearForm, Node, Program

Direction = Literal["kept", "recomputed"]
Rule = Literal["ddim", "ddnm"]
Climb = Literal["forward", "rise"]


@dataclass(frozen=True)
class Operations:
    """Names of the operations of a walk; an empty one is left out.

    Attributes:
        start: of (x_T), with ``alpha`` and ``sigma``: the first state.
        paste: of (x_t, z): the state that the network sees.
        correct: of (D), with ``limit``, the step's c/α_s: D'.
        noise: of (z), with ``limit``: what is drawn in place of z.
        settle: of (D), at the end of the walk: the sample; ``correct`` where it is empty.
        step: of (x_t, D, z), with ``alpha``, ``sigma``, ``next_alpha`` and ``next_sigma``: the whole move down. At the
            end of the walk ``next_alpha`` is 1 and ``next_sigma`` 0.
    """

    start: str = ""
    paste: str = ""
    correct: str = ""
    noise: str = ""
    settle: str = ""
    step: str = ""


@dataclass(frozen=True)
class Walk:
    """How a walk is made; see the module.

    Attributes:
        eta: noise of a move down, in [0, 1].
        rule: by which rule ``eta`` counts.
        direction: what e is made of.
        climb: how it goes up.
        length: nodes that it climbs at a time; 0 for a walk straight down.
        times: how often each stretch of that length is climbed.
        operations: what is done that is no row of numbers.
    """

    eta: float = 0.0
    rule: Rule = "ddim"
    direction: Direction = "recomputed"
    climb: Climb = "forward"
    length: int = 0
    times: int = 0
    operations: Operations = field(default_factory=Operations)

    def __post_init__(self) -> None:
        for name, known in (("rule", Rule), ("direction", Direction), ("climb", Climb)):
            if getattr(self, name) not in get_args(known):
                raise UnknownNameError(f"{name} of a walk", getattr(self, name), get_args(known))
        real_number("eta", self.eta, 0, 1)
        natural_number("length", self.length, 0)
        natural_number("times", self.times, 0)

    def visits(self, last: int) -> list[int]:
        """The nodes in order, from 0 (pure noise) to ``last``.

        Nodes a multiple of ``length`` before the last one are where it climbs back by ``length``, one node at a time
        and
        ``times`` times each, as far as there are nodes above: the schedule of RePaint (Lugmayr et al. 2022).
        """
        jumps = dict.fromkeys(range(0, last - self.length + 1, self.length), self.times) if self.length else {}
        left, found = last, [0]  # nodes that are left below
        while left:
            left -= 1
            found.append(last - left)
            if jumps.get(left, 0):
                jumps[left] -= 1
                found += [last - left - each for each in range(1, self.length + 1)]
                left += self.length
        return found

    def calls(self, last: int) -> int:
        """Network calls of a walk down to node ``last``; moves of the forward process need none."""
        visits = self.visits(last)
        rises = self.climb == "rise"
        return 1 + sum(rises or there > here for here, there in itertools.pairwise(visits))


def compile_walk(walk: Walk, path: LinearPath, nfe: int, grid: str | Sequence[float] | None = None) -> Plan:
    """The plan of ``walk`` on ``path`` with the most nodes that ``nfe`` network calls pay.

    Raises:
        AnydiffError: the path has known sources, one schedule per leaf or no log-SNR, or the budget is too small.
    """
    if not isinstance(path, GaussianPath) or path.known or isinstance(path, ProductPath):
        raise AnydiffError(
            f"this method walks a path of one schedule from noise to data, which {path!r} is not; use the method "
            "'pigdm', which works inside every plan."
        )
    budget = natural_number("nfe", nfe)
    last = 0
    while last + 1 < budget and walk.calls(last + 1) <= budget:
        last += 1
    if not last:
        raise AnydiffError(f"nfe is {nfe}, but this method needs at least {walk.calls(1)} network calls; raise nfe.")
    nodes = [Node(path, t) for t in time_grid(path, last, grid)]
    program = Program(path)
    x = _start(program, walk.operations.start, nodes[0])
    visits = walk.visits(len(nodes) - 1)
    for here, there in itertools.pairwise(visits):
        if there < here and walk.climb == "forward":
            x = up(program, x, nodes[here], nodes[there])
            continue
        x, data = _seen(program, x, nodes[here], walk.operations.paste)
        if there < here:
            x = _rise(x, data, nodes[here], nodes[there])
        else:
            x = down(program, x, data, (nodes[here], nodes[there]), walk)
        program.keep(x)
    x, data = _seen(program, x, nodes[-1], walk.operations.paste)
    return program.finish(_end(program, x, data, nodes[-1], walk), repr(walk), tuple(node.t for node in nodes), None)


def _start(program: Program, operation: str, first: Node) -> LinearForm:
    x = program.start()
    return program.apply(operation, x, node=first, alpha=first.alpha, sigma=first.sigma) if operation else x


def _seen(program: Program, x: LinearForm, node: Node, paste: str) -> tuple[LinearForm, LinearForm]:
    """The state that the network sees at ``node``, and its data prediction."""
    if paste:
        x = program.apply(paste, x, program.noise(), node=node, alpha=node.alpha, sigma=node.sigma)
    return x, program.evaluate(x, node)


def down(program: Program, x: LinearForm, data: LinearForm, nodes: tuple[Node, Node], walk: Walk) -> LinearForm:
    """The state at the second of ``nodes``, of less noise, by the walk's rule."""
    t, s = nodes
    names = walk.operations
    if names.step:
        ahead = {"alpha": t.alpha, "sigma": t.sigma, "next_alpha": s.alpha, "next_sigma": s.sigma}
        return program.apply(names.step, x, data, program.noise(), node=t, **ahead)
    h = s.log_snr - t.log_snr
    gain = -math.expm1(-2 * h) if walk.rule == "ddim" else 1.0
    std = walk.eta * s.sigma * math.sqrt(gain)
    # sqrt(σ_s² - c²), written so that nothing cancels where c is nearly σ_s.
    rest = (1 - walk.eta**2) + (walk.eta**2 * math.exp(-2 * h) if walk.rule == "ddim" else 0.0)
    ratio = s.sigma * math.sqrt(rest) / t.sigma
    limit = std / s.alpha
    corrected = program.apply(names.correct, data, node=t, limit=limit) if names.correct else data
    centre = corrected if walk.direction == "recomputed" else data
    found = ratio * x + s.alpha * corrected - ratio * t.alpha * centre
    if std == 0.0:
        return found
    z = program.noise()
    z = program.apply(names.noise, z, node=t, limit=limit) if names.noise else z
    return found + std * z


def up(program: Program, x: LinearForm, t: Node, s: Node) -> LinearForm:
    """The state at ``s``, of more noise, by the forward process from ``t``; however many nodes lie between."""
    ratio = s.alpha / t.alpha
    std = s.sigma * math.sqrt(-math.expm1(2 * (s.log_snr - t.log_snr)))
    return ratio * x + std * program.noise()


def _rise(x: LinearForm, data: LinearForm, t: Node, s: Node) -> LinearForm:
    ratio = s.sigma / t.sigma
    return ratio * x + (s.alpha - ratio * t.alpha) * data


def _end(program: Program, x: LinearForm, data: LinearForm, last: Node, walk: Walk) -> LinearForm:
    names = walk.operations
    if names.step:
        ahead = {"alpha": last.alpha, "sigma": last.sigma, "next_alpha": 1.0, "next_sigma": 0.0}
        return program.apply(names.step, x, data, program.noise(), node=last, **ahead)
    if names.settle:
        return program.apply(names.settle, data, node=last)
    return program.apply(names.correct, data, node=last, limit=0.0) if names.correct else data
