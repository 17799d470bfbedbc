"""Time grids: the decreasing times t_0 = T > t_1 > ... > t_N at which a sampler stops.

A grid of N steps has N + 1 nodes. It is a list of float64 numbers made once on the host; its first node is exactly
``path.t_start`` and its last exactly ``path.t_end``. There are no integer timesteps.

The grids of published schedulers count the rungs of a :class:`~anydiff.paths.Ladder`, and have a meaning there alone.
``trailing`` begins at the last rung, as the prior does. ``leading`` does not: schedulers of this name hand pure noise
to a network that is told a lower level, so brightness and contrast of samples are biased (Lin et al. 2024,
arXiv:2305.08891). Here a plan on it begins where its first node is, and is refused from the prior: take ``trailing``,
or hand over states at that time by ``start``.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError, natural_number
from anydiff.paths.ladder import Ladder
from anydiff.paths.path import ClockedPath, Path, clocked

Grid = list[float]


def uniform_time(path: Path, steps: int) -> Grid:
    """t_i = T + (t_end - T) i/N, or where the path places them (:meth:`~anydiff.paths.path.Path.spaced`)."""
    return _pin(path, path.spaced(np.linspace(path.t_start, path.t_end, steps + 1)))


def uniform_log_snr(path: ClockedPath, steps: int) -> Grid:
    """λ_i uniform between λ(T) and λ(t_end) (Lu et al., DPM-Solver, NeurIPS 2022)."""
    return _from_log_snr(path, np.linspace(*path.log_snr_range(), steps + 1))


def power(path: Path, steps: int, exponent: float) -> Grid:
    """t_i^(1/p) uniform between T and t_end; p = 2 is the quadratic grid (Song et al., DDIM, ICLR 2021)."""
    first, last = path.t_start ** (1 / exponent), path.t_end ** (1 / exponent)
    return _pin(path, np.linspace(first, last, steps + 1) ** exponent)


def karras(path: ClockedPath, steps: int, rho: float = 7.0) -> Grid:
    """κ_i^(1/ρ) uniform in κ = σ/α (Karras et al. 2022, equation 5, without its appended zero)."""
    first, last = (math.exp(-log_snr / rho) for log_snr in path.log_snr_range())
    return _from_log_snr(path, -rho * np.log(np.linspace(first, last, steps + 1)))


def learned(path: ClockedPath, steps: int) -> Grid:
    """Uniform in sqrt(u) + u^22/16 with u = σ/(α + σ): the grid of the solver ``by-budget``.

    The root crowds nodes near the data, the power adds some near pure noise. The exponents and the factor were fitted
    (and rounded) so that Adams on the velocity errs least on exact denoisers of twelve random mixtures at 5 to 15
    steps. As u is a function of the log-SNR, all paths get the same noise levels.
    """

    def place(u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sqrt(u) + u**22 / 16

    ends = np.array([1 / (1 + math.exp(log_snr)) for log_snr in path.log_snr_range()])
    first, last = (float(value) for value in place(ends))
    places = np.linspace(first, last, steps + 1)
    low, high = np.full(steps + 1, ends[1]), np.full(steps + 1, ends[0])
    for _ in range(60):  # bisection: place increases
        middle = (low + high) / 2
        above = place(middle) > places
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return _from_log_snr(path, np.log1p(-low) - np.log(low))


def _clocked(grid: Callable[[ClockedPath, int], Grid], name: str) -> Callable[[Path, int], Grid]:
    """``grid``, on paths that have a log-SNR."""
    return lambda path, steps: grid(clocked(path, f"the time grid {name!r}"), steps)


GRIDS: dict[str, Callable[[Path, int], Grid]] = {
    "time": uniform_time,
    "log-snr": _clocked(uniform_log_snr, "log-snr"),
    "quadratic": functools.partial(power, exponent=2.0),
    "power-2.5": functools.partial(power, exponent=2.5),
    "karras": _clocked(karras, "karras"),
    "learned": _clocked(learned, "learned"),
}


def leading(path: Path, steps: int) -> Grid:
    """t_i = (N - i) (T // (N + 1)): with the end ``denoise``, the N + 1 levels of schedulers with leading spacing.

    T is the number of rungs. The last rung is not among them.
    """
    rungs = _rungs(path, steps, "leading", each=1)
    return [float((steps - i) * (rungs // (steps + 1))) for i in range(steps + 1)]


def trailing(path: Path, steps: int) -> Grid:
    """t_i = round(T - i T/N) - 1 for i < N, and the first rung: the N levels of schedulers with trailing spacing.

    T is the number of rungs. From the last of these levels schedulers step to clean data at once; here a plan goes to
    the first rung, and from there as its end says.
    """
    rungs = _rungs(path, steps, "trailing", each=2)  # its last level lies above the first rung
    return [*(float(round(rungs - i * rungs / steps) - 1) for i in range(steps)), 0.0]


STEP_GRIDS: dict[str, Callable[[Path, int], Grid]] = {"leading": leading, "trailing": trailing}
"""Those that count the rungs of a ladder."""


def _rungs(path: Path, steps: int, name: str, each: int) -> int:
    """The number of rungs, of which every step needs ``each`` and one more."""
    if not isinstance(path, Ladder):
        raise NotApplicableError(
            f"the time grid {name!r} counts the rungs of the path 'ladder', which {path!r} has not; take 'time' there."
        )
    most = (path.steps - 1) // each
    if steps > most:
        raise AnydiffError(
            f"the time grid {name!r} of {steps} steps needs more rungs than the {path.steps} of the ladder; take at "
            f"most {most} steps."
        )
    return path.steps


def time_grid(path: Path, steps: int, grid: str | Sequence[float] | None = None) -> Grid:
    """The nodes of a grid of ``steps`` steps: ``steps + 1`` decreasing times.

    Args:
        path: the path whose [t_end, t_start] is divided.
        steps: whole number of at least 1.
        grid: a name of :data:`GRIDS` (on a ladder of :data:`STEP_GRIDS` too), a custom list of ``steps + 1`` decreasing
            times, or None for the path's default.

    Raises:
        UnknownNameError: no such grid.
        NotApplicableError: a grid of rungs on a path that has none.
        AnydiffError: the custom list has another length, is not decreasing, or leaves the path's range.
    """
    steps = natural_number("steps", steps)
    if grid is None:
        grid = path.default_grid
    if isinstance(grid, str):
        known = {**GRIDS, **STEP_GRIDS}
        if grid not in known:
            raise UnknownNameError("time grid", grid, known)
        return known[grid](path, steps)
    try:
        nodes = [float(t) for t in grid]
    except (TypeError, ValueError):
        raise AnydiffError(f"the time grid is {grid!r}, but must be a name or a list of decreasing times.") from None
    return _check_custom(path, steps, nodes)


def _check_custom(path: Path, steps: int, nodes: Grid) -> Grid:
    if len(nodes) != steps + 1:
        raise AnydiffError(
            f"the time grid has {len(nodes)} nodes, but {steps} steps need {steps + 1}; add or drop nodes."
        )
    if not all(math.isfinite(t) for t in nodes) or any(s <= t for s, t in itertools.pairwise(nodes)):
        raise AnydiffError(f"the time grid {nodes} is not strictly decreasing; sort it and drop repeated times.")
    if nodes[0] > path.t_start or nodes[-1] < 0:
        raise AnydiffError(f"the time grid runs from {nodes[0]} to {nodes[-1]}, but must stay in [0, {path.t_start}].")
    return nodes


def _from_log_snr(path: ClockedPath, log_snr: NDArray[np.float64]) -> Grid:
    return _pin(path, path.time(torch.from_numpy(log_snr)).numpy())


def _pin(path: Path, nodes: NDArray[np.float64]) -> Grid:
    """``nodes`` as floats with both ends exact, whatever rounding did to them."""
    return [path.t_start, *(float(t) for t in nodes[1:-1]), path.t_end]
