"""DPM-Solver-v3 as a method of calibration: the statistics of one model, and the best way to use them.

Zheng et al., NeurIPS 2023 (arXiv 2310.13268). :mod:`anydiff.calibration.statistics` takes the statistics,
:mod:`anydiff.solvers.dpm_solver_v3` compiles with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anydiff.calibration.reference import Trials, per_sample
from anydiff.calibration.search import Found, Method, Spending, named_solver
from anydiff.calibration.statistics import POOLS, Sampled, estimate, statistic_times
from anydiff.errors import NotApplicableError, UnknownNameError, natural_number
from anydiff.solvers import Solver
from anydiff.solvers.dpm_solver_v3 import DPMSolverV3, Statistics
from anydiff.solvers.exponential import checked_order

MOST = 3
"""The greatest degree."""
#: (degree, corrector, pseudo, lower_order_final) that are tried: the settings that the paper uses by number of calls.
VARIANTS = tuple(itertools.product(range(1, MOST + 1), (True, False), (False, True), (False, True)))


@dataclass(frozen=True)
class DPMSolverV3Statistics(Method):
    """Statistics of the model, and the way they are used that is nearest on the search's noises.

    The statistics are taken over the model's own samples, the ends of the exact trajectories of the search.

    Args:
        base: the solver that is the baseline.
        on: the time grid; None for the base's own or else the path's.
        points: of the statistics, uniform in λ.
        probes: backward passes for l per sample and point.
        pool: ``"entry"``, ``"channel"`` or ``"auto"``; see :func:`entry_groups`.
        degree: 1 to 3; None for the best of all.
    """

    name: ClassVar[str] = "v3"
    count: ClassVar[int] = 128
    base: str = "unipc-2"
    on: str | None = "log-snr"
    points: int = 97
    probes: int = 1
    pool: str = "auto"
    degree: int | None = None

    def __post_init__(self) -> None:
        natural_number("points", self.points, minimum=3)
        natural_number("probes", self.probes)
        if self.pool not in POOLS:
            raise UnknownNameError("pool", self.pool, POOLS)
        if self.degree is not None:
            checked_order("degree", self.degree, MOST)

    @property
    def grid(self) -> str | None:
        """As ``on`` says."""
        return self.on

    def solver(self, values: Mapping[str, NDArray[Any]]) -> Solver:
        """DPM-Solver-v3 with the statistics, or the base."""
        if not values:
            return named_solver(self.base)
        parts = {n: np.asarray(values[n], np.float64) for n in ("times", "log_snr", "linear", "scale", "shift")}
        degree, *flags = (int(each) for each in values["variant"])
        corrector, pseudo, final = (bool(each) for each in flags)
        return DPMSolverV3(Statistics(**parts, groups=np.asarray(values["groups"], np.int64)), degree, corrector,
                           pseudo, lower_order_final=final)  # fmt: skip

    def search(self, trials: Trials, nfe: int, spending: Spending) -> Found:
        """The statistics, made once for all numbers of calls, and the best of some twenty ways to use them.

        Raises:
            NotApplicableError: fewer calls than the degree that was asked for.
        """
        if self.degree is not None and nfe < self.degree:
            raise NotApplicableError(
                f"nfe is {nfe}, but degree {self.degree} needs {self.degree} network calls; raise it, or leave degree "
                "out."
            )
        _, end = trials.reference()
        spending.check(trials.calls + self.points * (3 + 2 * self.probes))
        shared, calls = trials.once("statistics", lambda: self._statistics(trials, end, spending))
        trials.calls += calls
        spending.check(trials.calls)
        path = trials.denoiser.path
        baseline = float(per_sample(trials.run(self.plan({}, path, nfe, trials.guided)), end).mean())
        best: tuple[float, Mapping[str, NDArray[Any]]] = (baseline, {})
        for variant in VARIANTS:
            if variant[0] not in (self.degree or variant[0],) or variant[0] > nfe:
                continue
            values = {**shared, "variant": np.array(variant, dtype=np.int64)}
            score = float(per_sample(trials.run(self.plan(values, path, nfe)), end).mean())
            spending.check(trials.calls)
            if score < best[0]:
                best = (score, values)
        spending.tell(f"{nfe} calls: {best[0]:.3g} with statistics, {baseline:.3g} without")
        return Found(best[1], best[0], baseline)

    def _statistics(self, trials: Trials, end: Tensor, spending: Spending) -> tuple[dict[str, NDArray[Any]], int]:
        """The arrays, rounded as they are stored, and their calls (a backward pass counts as two)."""
        chunk = trials.chunk(self.plan({}, trials.denoiser.path, 1))
        path = chunk.denoiser.gaussian_path
        times = statistic_times(path, self.points)

        def drawn(number: int) -> Tensor:
            return chunk.noise.draw(chunk.samples, number, end.dtype, end.device)

        probes = [drawn(2 + k).sign() for k in range(self.probes)]
        spending.tell(f"statistics at {len(times)} points of {len(end)} samples")
        sampled = Sampled(end, drawn(1), probes, chunk.condition)
        made = estimate(chunk.denoiser, trials.spec, sampled, times, self.pool, spending)
        values: dict[str, NDArray[Any]] = {"times": made.times, "log_snr": made.log_snr,
                                           "groups": made.groups.astype(np.int32)}  # fmt: skip
        for name in ("linear", "scale", "shift"):
            values[name] = getattr(made, name).astype(np.float32)
        return values, len(times) * (3 + 2 * self.probes)
