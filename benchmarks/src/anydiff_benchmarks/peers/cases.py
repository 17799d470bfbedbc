"""One way to run every library: a case takes a target and a budget, and returns the endpoint and the calls it made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from anydiff_benchmarks.peers.targets import Target


class Counted:
    """The denoiser D(y, κ) of a target, which counts its calls."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.calls = 0

    def __call__(self, y: Tensor, kappa: float) -> Tensor:
        """D ``[B, d]`` at the unscaled state y and noise level κ, in float64."""
        self.calls += 1
        return self.target.denoise(y.double(), kappa)


@dataclass(frozen=True)
class Case:
    """A solver of a library on one of its grids.

    Attributes:
        library: name of the library.
        solver: the solver with its options, as text.
        grid: the grid, as text.
        run: from the counted denoiser and the number of network calls that may be made to the endpoint y.
    """

    library: str
    solver: str
    grid: str
    run: Callable[[Counted, int], Tensor]
