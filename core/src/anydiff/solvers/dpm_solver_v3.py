"""DPM-Solver-v3: multistep exponential integration in coordinates that a model's own statistics choose.

Zheng et al., "DPM-Solver-v3: improved diffusion ODE solver with empirical model statistics", NeurIPS 2023 (arXiv
2310.13268). With N = σ ε - l x and f = N/α = (1 - l) x/α - D, the probability-flow ODE in λ = log(α/σ) is

    dx/dλ = (d log α/dλ - l) x - α f,    df/dλ ≈ s f + b,

for any l, s and b of λ, one value per entry of a state (:mod:`anydiff.calibration.statistics` estimates those that
leave the least to the discretisation). With L, S the integrals of l, s from the base node λ_s, and β = ∫ e^{-S} b, the
part of f that s and b do not explain is g = e^{-S} f - β. It is interpolated by a polynomial in λ - λ_s through the
last nodes, and the step is

    x_t = (α_t/α_s) e^{-L_t} x_s - α_t e^{-L_t} ∫ e^{L+S} (g + β) dλ,

all integrals by the trapezoidal rule on the points of the statistics, so the nodes of a plan are among them. (l, s, b)
= (1, 0, 0) is DPM-Solver++(3M), (0, -1, 0) the same on the noise. The corrector repeats the last step with the new f as
one more node; it keeps N, hence f, and changes x alone. NFE: one call per step.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError
from anydiff.paths.base import gaussian
from anydiff.paths.path import Path
from anydiff.solvers.adams import step_order
from anydiff.solvers.base import Solver
from anydiff.solvers.exponential import checked_order, data_step
from anydiff.solvers.program import LinearForm, Node, Program

Array = NDArray[np.float64]
Known = tuple[int, LinearForm]
"""A point of the statistics and f there."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """l, s and b of a model at P decreasing times.

    Attributes:
        times: [P], decreasing.
        log_snr: [P], the path's λ there (a product's by its clock); a path of another schedule is refused.
        linear: l ``[P, G]``, one value for each of G groups of entries.
        scale: s ``[P, G]``.
        shift: b ``[P, G]``.
        groups: the group of each entry, of a shape that broadcasts to one sample.

    Raises:
        AnydiffError: shapes that do not fit, or a value that is not finite (names its point and group).
    """

    times: Array
    log_snr: Array
    linear: Array
    scale: Array
    shift: Array
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.times)
        if count < 2 or np.any(np.diff(self.times) >= 0) or np.any(np.diff(self.log_snr) <= 0):
            raise AnydiffError(f"the statistics have {count} times, but need at least 2, strictly decreasing.")
        for name in ("linear", "scale", "shift"):
            value = getattr(self, name)
            if value.shape != (count, int(self.groups.max()) + 1):
                raise AnydiffError(
                    f"{name} of the statistics has shape {value.shape}, but needs one row for each of {count} times "
                    f"and one column for each of {int(self.groups.max()) + 1} groups."
                )
            if not np.isfinite(value).all():
                point, group = (int(each[0]) for each in np.nonzero(~np.isfinite(value)))
                raise AnydiffError(
                    f"{name} of the statistics is not finite at t={self.times[point]:g} in group {group} of entries; "
                    "take more samples, or check the network there."
                )

    def __repr__(self) -> str:
        digest = hashlib.sha256()
        for array in (self.times, self.linear, self.scale, self.shift, self.groups):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"Statistics({len(self.times)} points, {self.linear.shape[1]} groups, {digest.hexdigest()[:12]})"

    def nearest(self, log_snr: float) -> int:
        """The point whose λ is nearest."""
        return int(np.abs(self.log_snr - log_snr).argmin())


@dataclass(frozen=True)
class DPMSolverV3(Solver):
    """DPM-Solver-v3, see the module.

    Args:
        statistics: of the model.
        degree: values of g that a step interpolates, 1 to 3; its order.
        corrector: repeat each step with the call that follows it, from the second on.
        pseudo: take each derivative from as few nodes as it needs. Less accurate, and steadier in very few steps.
        pseudo_corrector: the corrector takes one node more, and its derivatives as ``pseudo`` says.
        lower_order_final: let the order fall to 1 towards the last step.
    """

    statistics: Statistics
    degree: int = 3
    corrector: bool = True
    pseudo: bool = False
    pseudo_corrector: bool = False
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        checked_order("degree", self.degree, 3)

    @property
    def order(self) -> int:
        """The degree; at most 2 with ``pseudo``."""
        return min(self.degree, 2) if self.pseudo else self.degree

    def placed(self, path: Path, grid: Sequence[float]) -> Sequence[float]:
        """The nearest points of the statistics; nodes of pure noise and of clean data stay."""
        known, points = gaussian(path, "DPM-Solver-v3"), self.statistics
        expected = np.array([known.log_snr(float(t)) for t in points.times])
        if not np.allclose(expected, points.log_snr, rtol=0, atol=1e-6):
            raise AnydiffError(f"the statistics are of another schedule than {path!r}; estimate them on this path.")
        at = [known.log_snr(t) for t in grid]
        nodes = [
            t if math.isinf(value) else float(points.times[points.nearest(value)])
            for t, value in zip(grid, at, strict=True)
        ]
        if any(s <= t for s, t in itertools.pairwise(nodes)):
            raise AnydiffError(
                f"the statistics have {len(points.times)} points, too few for {len(grid) - 1} steps on this grid: two "
                "nodes fall on one point; take more points or fewer steps."
            )
        return nodes

    def build(self, program: Program, nodes: Sequence[Node]) -> LinearForm:
        """A row for f, one for the correction and one for the prediction per step."""
        tables = Tables(program, self.statistics)
        x: LinearForm = program.start()
        fixed: Array | float = 0.0  # the state is the form and a fixed array, which becomes a constant
        known: list[Known] = []
        last: tuple[LinearForm, Array | float, list[Known], LinearForm, Array | float] | None = None
        for index, (s, t) in enumerate(itertools.pairwise(nodes)):
            x, told = tables.whole(x, fixed, index), fixed
            data, fixed = program.evaluate(x, s), 0.0
            if s.alpha == 0 or t.sigma == 0:
                x, last = data_step(x, data, s, t), None
                continue
            at = tables.at(s)
            value = tables.rest(at) / s.alpha * x - data
            program.keep(value)
            if self.corrector and last is not None and (order := len(last[2]) + self.pseudo_corrector) > 1:
                nearby = [last[2][0], (at, value), *last[2][1 : order - 1]]
                corrected, own = tables.step(last[0], at, nearby, self.pseudo_corrector)
                change = corrected - last[3]
                x = x + LinearForm({register: c for register, c in change.terms.items() if np.any(c != 0)})
                fixed = last[1] + own - told
            known = [(at, value), *known][: self.degree]
            order = min(len(known), step_order(self.degree, index, len(nodes) - 1, self.lower_order_final))
            base, target = x, tables.at(t)
            x, own = tables.step(base, target, known[:order], self.pseudo)
            ratio = tables.ratio(at, target)
            last = (base, ratio * fixed, known[:order], LinearForm(x.terms), own)
            fixed = ratio * fixed + own
        return tables.whole(x, fixed, len(nodes))


class Tables:
    """The statistics as a leaf needs them, and the integrals over them."""

    def __init__(self, program: Program, statistics: Statistics) -> None:
        self.program, self.times = program, statistics.times
        points = [program.node(float(t)) for t in self.times]
        self.log_snr = np.array([point.log_snr for point in points])
        self.alpha = np.array([point.alpha for point in points])
        self.linear, scale, self.shift = (
            np.stack([program.part(row[statistics.groups]) for row in value])
            for value in (statistics.linear, statistics.scale, statistics.shift)
        )
        self.shifted = bool(np.any(statistics.shift != 0))
        self.total, self.scaled = (_cumulative(value, self.log_snr) for value in (self.linear, scale))

    def at(self, node: Node) -> int:
        """The number of the point at a node."""
        return int(np.abs(self.times - node.t).argmin())

    def rest(self, at: int) -> Array:
        """1 - l."""
        return np.asarray(1 - self.linear[at])

    def ratio(self, s: int, t: int) -> Array:
        """(α_t/α_s) e^{-L_t}."""
        return np.asarray(self.alpha[t] / self.alpha[s] * np.exp(self.total[s] - self.total[t]))

    def whole(self, x: LinearForm, fixed: Array | float, step: int) -> LinearForm:
        """The state with its fixed part, as a constant of the plan."""
        return x + self.program.constant(f"b{step}", fixed) if self.shifted and np.ndim(fixed) else x

    def step(
        self, x: LinearForm, t: int, known: Sequence[Known], pseudo: bool, relaxed: float = 1.0
    ) -> tuple[LinearForm, Array]:
        """The state at point ``t`` from the base, and its fixed part: that of the base apart.

        The first derivative is multiplied by ``relaxed``.
        """
        s = known[0][0]
        log_snr, part = self.log_snr[s : t + 1] - self.log_snr[s], slice(s, t + 1)
        growth = np.exp(self.total[part] - self.total[s] + self.scaled[part] - self.scaled[s])
        across = log_snr.reshape(-1, *[1] * (growth.ndim - 1))
        integrals = [_cumulative(growth * across**k, log_snr)[-1] / math.factorial(k) for k in range(len(known))]
        factors = _derivatives([float(self.log_snr[at] - self.log_snr[s]) for at, _ in known], pseudo)
        factors[1:2] *= relaxed
        factor = -self.alpha[t] * np.exp(self.total[s] - self.total[t])
        form = self.ratio(s, t) * x
        fixed = np.asarray(factor * _cumulative(growth * self._drift(s, s, t), log_snr)[-1])
        for place, (at, value) in enumerate(known):
            weight = factor * sum(w * row[place] for w, row in zip(integrals, factors, strict=True))
            form = form + weight * np.exp(self.scaled[s] - self.scaled[at]) * value
            if at != s:
                fixed = fixed - weight * self._drift(s, min(at, s), max(at, s))[0 if at < s else -1]
        return form, fixed

    def _drift(self, base: int, first: int, last: int) -> Array:
        """β = ∫ e^{-S} b from the base to each of the points ``first`` to ``last``, the base being one end."""
        part = slice(first, last + 1)
        sums = _cumulative(np.exp(self.scaled[base] - self.scaled[part]) * self.shift[part], self.log_snr[part])
        drift: Array = sums - sums[base - first]
        return drift


def _derivatives(places: Sequence[float], pseudo: bool) -> Array:
    """Row k holds the factors of the values at ``places`` (the first is 0) in the k-th derivative there."""
    count = len(places)
    if pseudo:
        rows = [[*_divided(places[: k + 1]), *[0.0] * (count - k - 1)] for k in range(count)]
        scaled: Array = np.array(rows) * np.array([[math.factorial(k)] for k in range(count)])
        return scaled
    powers = np.vander(np.array(places), increasing=True) / [math.factorial(k) for k in range(count)]
    return np.linalg.inv(powers).astype(np.float64, copy=False)


def _divided(places: Sequence[float]) -> list[float]:
    """The factors of the values in their leading divided difference."""
    return [1 / math.prod(own - other for other in places if other != own) for own in places]


def _cumulative(values: Array, at: Array) -> Array:
    """The integral from the first point to each, by the trapezoidal rule along the first axis."""
    widths = np.diff(at).reshape(-1, *[1] * (values.ndim - 1))
    steps = (values[1:] + values[:-1]) / 2 * widths
    sums: Array = np.zeros_like(values)
    sums[1:] = np.cumsum(steps, axis=0)
    return sums
