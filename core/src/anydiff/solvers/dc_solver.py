"""DC-Solver: a multistep method whose newest prediction is moved in time before each step, by a ratio per step.

Zhao et al., "DC-Solver: improving predictor-corrector diffusion sampler via dynamic compensation", ECCV 2024 (arXiv
2409.03755). After UniPC's corrector the stored prediction belongs to the predicted state and not to the corrected one.
So before the step from t_0 the newest of the last three predictions is replaced by their parabola in t at

    t' = ρ t_0 + (1 - ρ) t_1,    M_0 <- Σ_k M_k Π_{j≠k} (t' - t_j)/(t_k - t_j),

and stays replaced for later steps. ρ = 1 changes nothing, ρ = 0 gives the prediction before. The first two steps, which
have no three predictions, are not compensated. The ratios are searched (:mod:`anydiff.calibration.dc_solver`): they
belong to a model, a guidance, a grid and a number of calls. NFE: as the method that is compensated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from anydiff.errors import AnydiffError
from anydiff.solvers.base import Past, Solver
from anydiff.solvers.dpm_solver_pp import DPMSolverPP
from anydiff.solvers.program import LinearForm, Node, Program
from anydiff.solvers.uni_pc import UniPC
from anydiff.solvers.velocity_adams import VelocityAdams

#: So many predictions are interpolated.
NODES = 3


def lagrange(nodes: Sequence[Node], ratio: float) -> list[float]:
    """The weights of the predictions at ``nodes`` (newest first) at t' = ρ t_0 + (1 - ρ) t_1; they sum to 1."""
    times = [node.t for node in nodes]
    at = ratio * times[0] + (1 - ratio) * times[1]
    weights = []
    for k, own in enumerate(times):
        factors = [(at - other) / (own - other) for j, other in enumerate(times) if j != k]
        weights.append(math.prod(factors))
    return weights


@dataclass(frozen=True)
class Compensated(Solver):
    """What all compensated methods share.

    Args:
        ratios: ρ of each step, the first two of which must be 1; steps without one are not compensated.
        closed: correct the state at the last node too, by one more call (what a search looks at).
    """

    memory: ClassVar[int] = NODES
    ratios: tuple[float, ...] = ()
    closed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", tuple(float(each) for each in self.ratios))
        if not all(math.isfinite(each) for each in self.ratios):
            raise AnydiffError(f"ratios are {self.ratios}, but each must be a finite number; 1 changes nothing.")
        if any(each != 1.0 for each in self.ratios[: NODES - 1]):
            raise AnydiffError(
                f"ratios begin with {self.ratios[: NODES - 1]}, but the first {NODES - 1} steps cannot be compensated; "
                "write 1 there."
            )

    @property
    def closes(self) -> bool:  # type: ignore[override]
        """As ``closed`` says."""
        return self.closed

    def revised(self, program: Program, past: Sequence[Past], step: int) -> LinearForm:
        """The parabola through the last three predictions at t'."""
        ratio = self.ratios[step] if step < len(self.ratios) else 1.0
        if ratio == 1.0 or len(past) < NODES:
            return past[0][1]
        nodes = [node for node, _ in past[:NODES]]
        form = LinearForm({})
        for weight, (_, value) in zip(lagrange(nodes, ratio), past[:NODES], strict=True):
            form = form + weight * value
        program.keep(form)  # later ratios refer to it: without a register its terms would grow with the steps
        return form


@dataclass(frozen=True)
class DCUniPC(Compensated, UniPC):
    """UniPC with compensated predictions, by default of degree 2."""

    degree: int = 2

    def __post_init__(self) -> None:
        UniPC.__post_init__(self)
        Compensated.__post_init__(self)


@dataclass(frozen=True)
class DCDPMSolverPP(Compensated, DPMSolverPP):
    """DPM-Solver++ multistep with compensated predictions."""

    def __post_init__(self) -> None:
        DPMSolverPP.__post_init__(self)
        Compensated.__post_init__(self)


@dataclass(frozen=True)
class DCVelocityAdams(Compensated, VelocityAdams):
    """Velocity-Adams with compensated velocities."""

    def __post_init__(self) -> None:
        VelocityAdams.__post_init__(self)
        Compensated.__post_init__(self)


#: The compensated methods by the name of the method that is compensated.
BASES: dict[str, type[Compensated]] = {
    "unipc-2": DCUniPC, "dpm-solver++-2m": DCDPMSolverPP, "velocity-adams": DCVelocityAdams,
}  # fmt: skip
