"""How far a model's ODE and SDE samples are apart, and where its score violates the Fokker-Planck equation.

Both would have one law if the score were right (:mod:`anydiff.objectives.fokker_planck`). They are drawn on one grid of
so many steps that half as many give the same, as far as so few samples tell: else the distance would be the bias of the
steps. Both solvers are exponential integrators of second order, since Euler's bias takes thousands of steps to vanish.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.advise.levels import batch_of
from anydiff.denoisers import batch_times, has_log_density
from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import sliced_wasserstein
from anydiff.networks import Autoencoder
from anydiff.objectives import fokker_planck_residual, pair_mean, require_equation
from anydiff.pipeline import Pipeline
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.recipes.build import build_dataset
from anydiff.states import Draws, NoiseSource, permutation

LEAST = 25
"""Steps of the first grid; each further one has twice as many."""
ODE, SDE = "dpm-solver++-2m", "sde-dpm-solver++-2m"
TIMES, ROWS = 8, 64
"""Times and held-out examples at which the residual is taken."""
SPLITS = 8
"""How often samples of one law are split, to find what two sets of it differ by."""
ENTRIES, PROBES = 16, 4
"""States of more entries have their Laplacian estimated by so many probes."""


@dataclass(frozen=True)
class Residual:
    """The residual at one time.

    Attributes:
        t: the time.
        log_snr: λ = log(α/σ) there.
        size: its root mean square over held-out examples noised to ``t``.
    """

    t: float
    log_snr: float
    size: float


@dataclass(frozen=True)
class Gap:
    """What :func:`gap` found; distances are sliced 2-Wasserstein ones of the states, in their units.

    Attributes:
        samples: of each set.
        steps: of the grid that both were drawn on.
        distance: of the ODE's samples from the SDE's.
        floor: of two sets of one law, the SDE's of two seeds split at random, in the mean: what so few samples cannot
            tell from zero.
        change: of either from the one with half as many steps, the larger.
        of: ``log-density`` where the network is a potential and R is its residual, ``score`` where S is the score's.
        residuals: by time, from the data to the prior.
    """

    samples: int
    steps: int
    distance: float
    floor: float
    change: float
    of: str
    residuals: list[Residual]

    @property
    def seen(self) -> bool:
        """Whether the two differ by more than twice what samples of one law differ."""
        return self.distance > 2 * self.floor

    @property
    def sentence(self) -> str:
        """What it says, in words."""
        worst = max(self.residuals, key=lambda each: each.size)
        apart = f"the samples of ODE and SDE are {self.distance:.4g} apart, two sets of one law {self.floor:.4g}"
        found = f"{apart}: they differ" if self.seen else f"{apart}: {self.samples} samples tell no difference"
        return f"{found}; the Fokker-Planck residual is largest at t={worst.t:.3g}: {worst.size:.3g}."


def gap(
    pipeline: Pipeline, count: int = 1000, *, most: int = 400, seed: int = 0,
    report: Callable[[str], None] | None = None, **options: Any,
) -> Gap:  # fmt: skip
    """The distance of a model's ODE samples from its SDE samples, and its residual at log-spaced times.

    Samples are asked for the conditions of the held-out data, without guidance, and stop at the path's least time.

    Args:
        pipeline: any model whose path has Gaussian noise.
        count: samples of each set, at least 2.
        most: steps of the finest grid that is tried.
        seed: of the samples; the floor takes the next seed.
        report: told what is drawn.
        options: of :meth:`Pipeline.sample`: ``batch_size``, ``device``.

    Raises:
        AnydiffError: an autoencoder, a path or states without a density, a network of straight pieces, or samples that
            still change with the steps on the finest grid.
    """
    if isinstance(pipeline.denoiser.network, Autoencoder):
        raise AnydiffError(f"{pipeline.recipe.name!r} is an autoencoder, which has no score; ask for its metrics.")
    require_free(pipeline, "the gap between ODE and SDE")
    require_whole(pipeline, "the gap between ODE and SDE")
    require_equation(pipeline.denoiser)
    natural_number("count", count, 2)
    if natural_number("most", most, 1) < 2 * LEAST:
        raise AnydiffError(f"the finest grid has {most} steps, but at least {2 * LEAST} are needed to compare two.")
    residuals = _residuals(pipeline, seed)  # refuses what has no second derivatives before anything is drawn
    reference, say = pipeline.reference(), report or (lambda text: None)

    def drawn(solver: str, steps: int, number: int) -> Tensor:
        say(f"{count} samples of {solver}, {steps} steps")
        given = {"nfe": steps, "seed": number, "end": "stop", "guidance": [], **options}
        return pipeline.like(reference, count, solver=solver, **given).states.flatten(1).double()

    steps, change = LEAST, math.inf
    ode, sde = drawn(ODE, steps, seed), drawn(SDE, steps, seed)
    floor = _floor(torch.cat([sde, drawn(SDE, steps, seed + 1)]))
    while change > 2 * floor:
        if 2 * steps > most:
            raise AnydiffError(
                f"with {steps} steps the samples differ by {change:.3g} from those with half as many, and two sets of "
                f"one law by {floor:.3g}; allow more steps than {most} (--nfe), or take fewer samples (--count)."
            )
        steps, before = 2 * steps, (ode, sde)
        ode, sde = drawn(ODE, steps, seed), drawn(SDE, steps, seed)
        change = max(sliced_wasserstein(now, then) for now, then in zip((ode, sde), before, strict=True))
    of = "log-density" if has_log_density(pipeline.denoiser) else "score"
    return Gap(count, steps, sliced_wasserstein(ode, sde), floor, change, of, residuals)


def _floor(pool: Tensor) -> float:
    """The mean distance of the two halves of ``pool [2 N, F]``, split at random :data:`SPLITS` times."""
    halves = (torch.from_numpy(permutation(0, k, "gap", len(pool))).chunk(2) for k in range(SPLITS))
    return sum(sliced_wasserstein(pool[one], pool[two]) for one, two in halves) / SPLITS


def _residuals(pipeline: Pipeline, seed: int) -> list[Residual]:
    denoiser, path = pipeline.denoiser, pipeline.denoiser.gaussian_path
    held_out = build_dataset(pipeline.recipe, "test")
    rows = range(min(ROWS, len(held_out)))
    clean, condition = batch_of(pipeline, held_out, rows)
    spec = pipeline.domain.spec if pipeline.latent is None else pipeline.latent.spec
    noise = NoiseSource(spec, seed).draw(rows, 0, clean.dtype)
    device = next(denoiser.parameters()).device
    first = max(path.t_end, 1e-3 * path.t_start)
    times = torch.logspace(math.log10(first), math.log10(0.999 * path.t_start), TIMES, dtype=torch.float64)
    probes = None
    if spec.size > ENTRIES:
        signs = Draws(seed, rows, name="gap").signs("probes", (PROBES, *spec.shape))
        probes = signs.movedim(0, 1).to(device=device, dtype=clean.dtype)
    found = []
    for t in times.tolist():
        mixed = path.mix(batch_times(t, clean), x0=clean, noise=noise, **path.given(condition, like=clean)).to(device)
        residual = fokker_planck_residual(denoiser, mixed, t, condition.to(device), probes).double()
        squared = residual.square() if probes is None else pair_mean(residual)
        found.append(Residual(t, float(path.log_snr(t)), math.sqrt(max(float(squared.mean()), 0.0))))
    return found
