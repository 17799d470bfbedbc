"""DPM-OT: each noise jumps to a stored latent at a late level, and a few steps take the latent down.

Li et al., "DPM-OT: a new diffusion probabilistic model based on optimal transport", ICCV 2023. The latents are the
model's own fine samples, noised to a level σ/α; the jump is the semi-discrete transport map of
:mod:`anydiff.calibration.transport`. So no sample is far from a stored one, and samples are no more varied than what is
stored: the lower the level, the more they are copies. How much so is the memorisation ratio, which is told with every
sample set: the median distance of samples to the nearest stored point over that of samples that were not stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.calibration.objective import compared_laws, frechet
from anydiff.calibration.reference import Trials
from anydiff.calibration.search import Found, Method, Spending, named_solver
from anydiff.calibration.transport import semi_discrete
from anydiff.errors import AnydiffError, NotApplicableError, natural_number
from anydiff.paths.base import gaussian
from anydiff.paths.path import Path
from anydiff.solvers import Coupled, Plan, Solver, Start, build_plan
from anydiff.states import Conditioning

MEMORISED = 0.5
"""Samples of a lower memorisation ratio are mostly copies."""
GIVEN = "given."


def memorisation_ratio(made: Tensor, stored: Tensor, fresh: Tensor) -> float:
    """Median distance of ``made`` to the nearest of ``stored``, over that of ``fresh`` ones; 1 for a law as varied.

    Args:
        made: ``[m, *shape]``.
        stored: ``[n, *shape]``.
        fresh: samples that are not stored, ``[k, *shape]``.
    """

    def nearest(states: Tensor) -> float:
        return float(torch.cdist(states.flatten(1).double(), stored.flatten(1).double()).amin(1).median())

    return nearest(made) / max(nearest(fresh), 1e-300)


@dataclass(frozen=True)
class DPMOT(Method):
    """Stored latents with a coupling to noise; see the module.

    Half of the search's noises give the stored latents, the other half what they are compared with.

    Args:
        base: the solver of the steps from the latents on, and the baseline from the prior.
        on: the baseline's grid; None for the base's own or else the path's.
        level: σ/α where the latents lie.
        steps: of the descent of the potentials.
        seed: of the latents' noise and of the descent.
    """

    name: ClassVar[str] = "ot"
    count: ClassVar[int] = 256
    fresh: ClassVar[int] = 256
    least: ClassVar[int] = 8
    law: ClassVar[bool] = True
    base: str = "ddim"
    on: str | None = None
    level: float = 0.5
    steps: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isinstance(self.level, int | float) and math.isfinite(self.level) and self.level > 0):
            raise AnydiffError(f"level is {self.level!r}, but must be a positive number: σ/α of the stored latents.")
        natural_number("steps", self.steps)
        natural_number("seed", self.seed, minimum=0)

    @property
    def grid(self) -> str | None:
        """Of the baseline."""
        return self.on

    def solver(self, values: Mapping[str, NDArray[Any]]) -> Solver:
        """The base."""
        return named_solver(self.base)

    def plan(self, values: Mapping[str, NDArray[Any]], path: Path, nfe: int, guided: bool = False) -> Plan:
        """The base from the latents' level on."""
        if not values:
            return super().plan(values, path, nfe, guided)
        solver = self.solver(values)
        solver = solver.under_guidance() if guided else solver
        return build_plan(solver, path, values["times"].tolist(), budget=nfe)

    def start(self, values: Mapping[str, NDArray[Any]]) -> Start | None:
        """The stored latents."""
        if not values:
            return None
        given = {name[len(GIVEN) :]: torch.from_numpy(v) for name, v in values.items() if name.startswith(GIVEN)}
        latents, potentials = (torch.from_numpy(values[name]) for name in ("latents", "potentials"))
        return Coupled(latents, potentials, float(values["times"][0]), given)

    def remark(self, values: Mapping[str, NDArray[Any]]) -> str:
        """The memorisation ratio, and how many latents no noise jumps to."""
        if not values:
            return ""
        ratio, empty, count = float(values["memorisation"]), int(values["empty"]), len(values["latents"])
        words = f"samples begin at {count} stored latents ({empty} of them never), memorisation ratio {ratio:.2f}"
        return f"{words}: {'mostly copies of what is stored' if ratio < MEMORISED else '1 is a law as varied'}."

    def compared(self, won: Tensor, plain: Tensor, end: Tensor) -> tuple[float, float, tuple[float, float, float]]:
        """Fréchet distances to the exact ends of the fresh noises."""
        return compared_laws(won, plain, end)

    def search(self, trials: Trials, nfe: int, spending: Spending) -> Found:
        """Latents of half of the noises' fine ends, with their potentials.

        Raises:
            NotApplicableError: absent nodes, more than one condition, fewer than one step, or a level off the path.
        """
        path, spec = trials.denoiser.gaussian_path, trials.spec
        if spec.has_absent_entries:
            raise NotApplicableError(
                "stored latents need states of one size, but nodes may be absent; take --method s3."
            )
        chunk = trials.chunk(self.plan({}, path, nfe, trials.guided))
        given = one_condition(chunk.condition)
        spending.check(trials.calls)
        _, end = trials.reference()
        half = len(end) // 2
        stored, held = end[:half], end[half:]
        latents, potentials, empty = trials.once("latents", lambda: self._latents(trials, stored))
        values: dict[str, NDArray[Any]] = {
            "times": np.array(self._nodes(path, nfe)), "latents": latents, "potentials": potentials,
            "empty": np.array(empty), **{GIVEN + name: value for name, value in given.items()},
        }  # fmt: skip
        spending.check(trials.calls)
        made = trials.run(self.plan(values, path, nfe, trials.guided), self.start(values))
        values["memorisation"] = np.array(memorisation_ratio(made, stored, held))
        spending.check(trials.calls)
        score = frechet(made, end)
        baseline = frechet(trials.run(self.plan({}, path, nfe, trials.guided)), end)
        spending.tell(f"{nfe} calls: {score:.3g} from stored latents, {baseline:.3g} without. {self.remark(values)}")
        return Found(values if score < baseline else {}, min(score, baseline), baseline)

    def _nodes(self, path: Path, nfe: int) -> list[float]:
        """Uniform in the log-SNR from the latents' level to the path's end."""
        known = gaussian(path, "stored latents")
        steps, last = named_solver(self.base).steps(nfe), known.log_snr_range()[1]
        first = -math.log(self.level)
        if steps < 1:
            raise NotApplicableError(f"nfe is {nfe}, too few for one step of {self.base}; raise it.")
        if not known.log_snr_range()[0] < first < last:
            raise NotApplicableError(
                f"level is {self.level:g}, but {path!r} has σ/α between {math.exp(-last):.3g} and "
                f"{math.exp(-known.log_snr_range()[0]):.3g}; choose one between."
            )
        return [float(known.time(float(each))) for each in np.linspace(first, last, steps + 1)]

    def _latents(self, trials: Trials, stored: Tensor) -> tuple[NDArray[Any], NDArray[Any], int]:
        path = trials.denoiser.gaussian_path
        t = float(path.time(-math.log(self.level)))
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(stored.shape, dtype=torch.float64, generator=generator)
        latents = (path.alpha(t) * stored.double().cpu() + path.sigma(t) * noise).float()
        found = semi_discrete(latents, self.steps, seed=self.seed)
        return latents.numpy(), found.potentials.numpy(), found.empty


def one_condition(condition: Conditioning) -> dict[str, NDArray[Any]]:
    """The condition that all rows share, by name.

    Raises:
        NotApplicableError: rows are asked for different things.
    """
    found = {}
    for name, value in condition.given.items():
        if not bool(condition.presence(name).all()) or not bool((value == value[:1]).all()):
            raise NotApplicableError(
                f"the condition {name!r} differs between samples, but stored latents are of one; name it "
                "(--condition NAME=VALUE)."
            )
        found[name] = value[0].cpu().numpy()
    return found
