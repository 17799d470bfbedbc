"""The unified space of solvers: a record of decisions for each step, which a search may change one by one.

Liu et al., "A unified sampling framework for solver searching of diffusion probabilistic models", ICLR 2024 (arXiv
2312.07243). A step from a node of the past to the next one interpolates the predictions at some nodes by a polynomial
and integrates it. Each step decides on the prediction that is integrated, its order, the nodes, a factor on the first
derivative, and whether it is corrected; each time is free as well. Known solvers are points of this space:

=============================  ======================================================================================
all ``data``, no corrector     DPM-Solver++ in its exact form; with ``pseudo`` correctors UniPC
all ``noise``                  DPM-Solver multistep
all ``data-time``              UniPC interpolated in time
all ``velocity``               velocity-Adams (:mod:`anydiff.solvers.velocity_adams`)
all ``statistics``             DPM-Solver-v3 (:mod:`anydiff.solvers.dpm_solver_v3`), with the statistics of a model
=============================  ======================================================================================

States and data predictions of the past are kept, so every kind of prediction follows from one call. NFE: one call per
step, one more for an ``implicit`` corrector, one less where the first output is analytic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, natural_number
from anydiff.paths.path import Path
from anydiff.solvers.base import Solver
from anydiff.solvers.dpm_solver_v3 import DPMSolverV3, Statistics, Tables
from anydiff.solvers.exponential import checked_choice, checked_order, data_step, step_size, transfer_ratio, weights
from anydiff.solvers.program import LinearForm, Node, Program

KINDS = ("data", "noise", "velocity", "data-time", "statistics")
CORRECTORS = ("none", "pseudo", "implicit")
PRESETS = ("linear", "midpoint", "bh1")
FIRST = ("network", "zero", "mean")
MOST = 5
"""The greatest order."""


@dataclass(frozen=True)
class Record:
    """The decisions of one step.

    Attributes:
        kind: the prediction that is integrated, one of :data:`KINDS`.
        order: how many predictions are interpolated, 1 to 5.
        points: the nodes beside the base, by their age (1 is the one before the newest); None for the newest.
        relax: ρ; the term of the first derivative is multiplied by 1 + ρ H, H = -h for data and h for noise.
        preset: ``"midpoint"`` or ``"bh1"`` in place of ρ: the factor that makes order 2 the midpoint rule (DPM-
            Solver-2M, UniPC bh2), or UniPC's bh1.
        low: the first derivative from so many nodes beside the base; 0 for all.
        corrector: ``"none"``, ``"pseudo"`` (the step again with the new prediction as one more node) or ``"implicit"``
            (the same, and one more call at the corrected state).
        base: the age of the node from which the step starts; 0 is the newest.

    Raises:
        AnydiffError: a choice or number out of range, or points that repeat.
    """

    kind: str = "data"
    order: int = 1
    points: tuple[int, ...] | None = None
    relax: float = 0.0
    preset: str = "linear"
    low: int = 0
    corrector: str = "none"
    base: int = 0

    def __post_init__(self) -> None:
        checked_choice("kind", self.kind, KINDS)
        checked_choice("corrector", self.corrector, CORRECTORS)
        checked_choice("preset", self.preset, PRESETS)
        checked_order("order", self.order, MOST)
        natural_number("base", self.base, minimum=0)
        if not math.isfinite(self.relax):
            raise AnydiffError(f"relax is {self.relax}, but must be a finite number; 0 changes nothing.")
        used = self.used
        if len(used) != self.order - 1 or len({*used, self.base}) <= len(used) or min(used, default=0) < 0:
            raise AnydiffError(
                f"points are {used} with base {self.base}, but order {self.order} needs {self.order - 1} other nodes, "
                "each once; a repeated one makes the interpolation singular."
            )
        if not 0 <= self.low <= len(used):
            raise AnydiffError(f"low is {self.low}, but must be from 0 to the {len(used)} points beside the base.")

    @property
    def used(self) -> tuple[int, ...]:
        """The ages of the nodes beside the base."""
        newest = (age for age in itertools.count() if age != self.base)
        return tuple(itertools.islice(newest, self.order - 1)) if self.points is None else self.points


@dataclass(frozen=True)
class _Past:
    """A node that was visited: the state there (corrected), the state that the network saw, and the prediction."""

    node: Node
    state: LinearForm
    seen: LinearForm
    data: LinearForm

    def value(self, kind: str, tables: Tables | None) -> LinearForm:
        """The prediction of a kind."""
        node = self.node
        if kind == "statistics" and tables is not None:
            return tables.rest(tables.at(node)) / node.alpha * self.seen - self.data
        if kind in ("data", "data-time"):
            return self.data
        scale = node.alpha if kind == "noise" else node.alpha + node.sigma
        return (self.seen - scale * self.data) / node.sigma


@dataclass(frozen=True)
class USF(Solver):
    """A solver with decisions of its own for each step; see the module.

    Args:
        records: one per step.
        times: the nodes, one more than steps; none for those of the grid that is asked for.
        first: what the first network call is: ``"network"``, or an analytic output in its place, ``"zero"`` (D = 0) or
            ``"mean"`` (D = ``mean``).
        mean: of the data: a number, or a nested tuple of them that broadcasts to one sample.
        statistics: of the model, for steps of the kind ``statistics``; then nodes move to its points.
    """

    records: tuple[Record, ...] = (Record(),)
    times: tuple[float, ...] = ()
    first: str = "network"
    mean: Any = 0.0
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        checked_choice("first", self.first, FIRST)
        if not self.records:
            raise AnydiffError("records are empty, but a solver takes at least one step.")
        if self.times and len(self.times) != len(self.records) + 1:
            raise AnydiffError(f"there are {len(self.times)} times for {len(self.records)} steps; give one more.")
        if any(s <= t for s, t in itertools.pairwise(self.times)):
            raise AnydiffError(f"times are {self.times}, but must be strictly decreasing: a repeated one is singular.")
        for index, record in enumerate(self.records):
            if max((*record.used, record.base)) > index:
                raise AnydiffError(
                    f"step {index + 1} reads the node of age {max((*record.used, record.base))}, but only {index + 1} "
                    "nodes were visited; lower its order."
                )
            if record.kind == "statistics" and self.statistics is None:
                raise AnydiffError(f"step {index + 1} integrates by statistics, but none are given.")

    @property
    def order(self) -> int:
        """The least order of a step that is no start and no end, as far as one can say."""
        inner = [record.order for record in self.records[2:-2]]
        return min(inner or [1])

    @property
    def calls(self) -> int:
        """Network calls of the plan."""
        implicit = sum(record.corrector == "implicit" for record in self.records[:-1])
        return len(self.records) + implicit - (self.first != "network")

    def steps(self, nfe: int) -> int:
        """All, or none where the budget is too small."""
        return len(self.records) if nfe >= self.calls else 0

    def placed(self, path: Path, grid: Sequence[float]) -> Sequence[float]:
        """Its own times; on the points of the statistics where it has some."""
        nodes = self.times or grid
        return nodes if self.statistics is None else DPMSolverV3(self.statistics).placed(path, nodes)

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """A row per step, and one for each correction."""
        if len(nodes) != len(self.records) + 1:
            raise AnydiffError(f"there are {len(self.records)} records, but the grid has {len(nodes) - 1} steps.")
        tables = None if self.statistics is None else Tables(program, self.statistics)
        x = program.start()
        past: list[_Past] = []
        last: tuple[Record, list[_Past], LinearForm, Node] | None = None
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            data = self._analytic(program) if index == 0 and self.first != "network" else program.evaluate(x, s)
            own = _Past(s, x, LinearForm(x.terms), data)
            if last is not None and last[0].corrector != "none":
                x = x + _change(*last[:3], own, tables, program, index)
                if last[0].corrector == "implicit":
                    data = program.evaluate(x, s)
                    own = _Past(s, x, LinearForm(x.terms), data)
                own = _Past(s, x, own.seen, data)
            past = [own, *past][: MOST + 1]
            record = self.records[index]
            stencil = _stencil(record, past, t)
            x = _step(record, stencil, t, tables, program, f"p{index}")
            last = (record, stencil, LinearForm(x.terms), t)
        return x

    def _analytic(self, program: Program) -> LinearForm:
        if self.first == "zero":
            return LinearForm({})
        return program.constant("mean", program.part(np.asarray(self.mean)))


def _stencil(record: Record, past: Sequence[_Past], t: Node) -> list[_Past]:
    """The nodes that a step reads, its base first."""
    base = past[record.base]
    if t.sigma == 0 or (base.node.alpha == 0 and record.kind != "velocity"):
        return [base]
    others = [past[age] for age in record.used]
    # Pure noise has no place on the axis of λ.
    return [base, *(each for each in others if each.node.alpha > 0 or record.kind in ("velocity", "data-time"))]


def _change(
    record: Record, stencil: list[_Past], predicted: LinearForm, new: _Past, tables: Tables | None, program: Program,
    index: int,
) -> LinearForm:  # fmt: skip
    """What the corrector adds to the predicted state: earlier states cancel exactly."""
    if stencil[0].node.alpha == 0 and record.kind != "velocity":
        return LinearForm({})
    plain = Record(record.kind)
    corrected = _step(plain, [*stencil, new], new.node, tables, program, f"c{index}")
    change = corrected - predicted
    return LinearForm({register: c for register, c in change.terms.items() if np.any(c != 0)})


def _step(
    record: Record, stencil: Sequence[_Past], t: Node, tables: Tables | None, program: Program, name: str
) -> LinearForm:
    """The state at ``t`` from the base, the first of the stencil."""
    base, s, kind = stencil[0], stencil[0].node, record.kind
    if t.sigma == 0 or (s.alpha == 0 and kind != "velocity"):
        return data_step(base.state, base.data, s, t)
    values = [each.value(kind, tables) for each in stencil]
    if kind == "statistics" and tables is not None:
        known = [(tables.at(each.node), value) for each, value in zip(stencil, values, strict=True)]
        form, fixed = tables.step(base.state, tables.at(t), known, False, _relaxation(record, s, t))
        return form + program.constant(name, fixed) if tables.shifted else form
    ratio, factors = _factors(record, [each.node for each in stencil], t)
    form = ratio * base.state
    for factor, value in zip(factors, values, strict=True):
        form = form + float(factor) * value
    return form


def _factors(record: Record, nodes: Sequence[Node], t: Node) -> tuple[float, NDArray[np.float64]]:
    """The factor of the base's state and those of the predictions at ``nodes``."""
    s, kind = nodes[0], record.kind
    if kind == "velocity":
        places, length = [_straight(node) for node in nodes], _straight(t) - _straight(s)
        scale = t.alpha + t.sigma
        moments = scale * length / np.arange(1, len(nodes) + 1)
        ratio = scale / (s.alpha + s.sigma)
    else:
        prediction, variable = ("data", "time") if kind == "data-time" else (kind, "log-snr")
        places = [node.t if variable == "time" else node.log_snr for node in nodes]
        length = t.t - s.t if variable == "time" else step_size(s, t)
        ratio = transfer_ratio(s, t, prediction)
        exact = weights(s, t, nodes, prediction, variable)
    theta = (np.array(places) - places[0]) / length
    powers = np.vander(theta, increasing=True)
    if kind != "velocity":
        moments = powers.T @ exact
    terms = np.linalg.inv(powers)  # row k holds the factors in the k-th coefficient of the polynomial
    if record.low:
        count = record.low + 1
        terms[1] = 0.0
        terms[1, :count] = np.linalg.inv(powers[:count, :count])[1]
    if len(nodes) > 1:
        terms[1] *= _relaxation(record, s, t)
    return ratio, moments @ terms


def _relaxation(record: Record, s: Node, t: Node) -> float:
    """The factor on the first derivative."""
    h = step_size(s, t)
    if not math.isfinite(h):
        return 1.0
    signed = h if record.kind == "noise" else -h
    if record.preset == "linear":
        return 1 + record.relax * signed
    rest = math.expm1(signed) - signed
    return signed * (math.expm1(signed) if record.preset == "midpoint" else signed) / 2 / rest


def _straight(node: Node) -> float:
    return node.sigma / (node.alpha + node.sigma)
