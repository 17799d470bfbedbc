"""CycleDiffusion: samples are encoded as the noises that a plan would have drawn, and decoded on the other side.

Wu and De la Torre, "Unifying diffusion models' latent space, with applications to CycleDiffusion and guidance"
(arXiv 2210.05559; ICCV 2023), for any stochastic plan. The encoder draws a plan's own run that ends in the sample
(``native`` targets), so the noises are nearly standard normal; two models of related data share them.

:func:`steered` is the paper's guidance by energies: Langevin dynamics on the noises, through the whole plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from anydiff.editing.method import Edit, EditMethod, Side
from anydiff.editing.record import NoiseRecord
from anydiff.editing.sdedit import resampled
from anydiff.errors import AnydiffError, natural_number
from anydiff.samplers import PlanSampler, SampleRequest
from anydiff.solvers.executor import execute
from anydiff.solvers.plan import Plan
from anydiff.states import NoiseSource
from anydiff.states.spec import StateSpec

Ranking = Callable[[Tensor, Tensor], Tensor]
"""(edited ``[n, *shape]``, the samples they were made of) -> a score per row; the highest is kept."""
Energy = Callable[[Tensor], Tensor]
"""Samples ``[n, *shape]`` -> what is to be low, per row."""
TRIALS = 1 << 40
"""Trial k of sample s has the index s + k 2^40."""
STEERING = 1 << 32
"""The number of the first draw of the dynamics, which no plan reaches."""


@dataclass(frozen=True)
class CycleDiffusion(EditMethod):
    """Encoded with the source, decoded with the target.

    Args:
        skip: share of the noisiest steps that are left out, in [0, 1): the encoder begins at a noised sample.
        refine: share of the steps that the edit is noised back by and taken down again on the target's side; 0 for
            none.
        trials: edits of each sample, of which the best is kept.
        rank: scores of edits; needed for more than one trial.
    """

    exact = True
    skip: float = 0.15
    refine: float = 0.0
    trials: int = 1
    rank: Ranking | None = None

    def __post_init__(self) -> None:
        natural_number("trials", self.trials)
        if not 0 <= self.refine < 1:
            raise AnydiffError(f"refine is {self.refine}, but must lie in [0, 1): the share of the steps gone back.")
        if (self.trials > 1) != (self.rank is not None):
            raise AnydiffError(
                f"trials is {self.trials} and rank is {self.rank!r}; give a ranking function and more than one trial, "
                "or neither."
            )

    def edited(self, edit: Edit) -> Tensor:
        """See :meth:`EditMethod.edited`."""
        plan = edit.travel.plan(edit.source.denoiser.path, self.solver, self.skip)
        best, score = self._tried(edit, plan), None
        for trial in range(1, self.trials):
            assert self.rank is not None
            score = self.rank(best, edit.clean) if score is None else score
            found = self._tried(replace(edit, samples=[index + trial * TRIALS for index in edit.indices]), plan)
            new = self.rank(found, edit.clean)
            better = new > score
            best = torch.where(better.reshape(-1, *[1] * (best.ndim - 1)), found, best)
            score = torch.where(better, new, score)
        return best

    def _tried(self, edit: Edit, plan: Plan) -> Tensor:
        record = edit.inverted(plan, "native")
        found = record.finished(edit.run(edit.target, plan, noise=record), edit.indices)
        return found if self.refine == 0 else resampled(edit, edit.target, found, 1 - self.refine, self.solver)


@dataclass(frozen=True)
class Steering:
    """Langevin dynamics on noises.

    Attributes:
        energies: (λ, E) each.
        steps: of the dynamics.
        size: of a step.
        noise: factor on the dynamics' own noise; 0 for plain ascent.
        seed: of that noise, drawn per sample and step.
        batch_size: rows at a time.
    """

    energies: Sequence[tuple[float, Energy]]
    steps: int = 50
    size: float = 0.01
    noise: float = 1.0
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        natural_number("steps", self.steps)
        if not self.energies or not self.size > 0:
            raise AnydiffError(
                f"energies are {len(self.energies)} and size is {self.size}, but at least one and above 0 are needed."
            )


@torch.no_grad()
def steered(record: NoiseRecord, plan: Plan, side: Side, spec: StateSpec, steering: Steering) -> NoiseRecord:
    """Noises whose samples have low energies: z <- z + size/2 ∇(-|z|²/2 - Σ λ E(G(z))) + noise sqrt(size) ξ.

    G is ``plan`` on ``side``, run differentiably: each network call is made again on the way back, so memory is one
    state per row of the plan.

    Args:
        record: where the walk begins.
        plan: that of the record.
        side: the denoiser, what it is told, one row per sample of the record.
        spec: what one sample is.
        steering: energies and steps.

    Returns:
        A record of the same plan whose ``clean`` is what the plan gives, with residual 0.

    Raises:
        AnydiffError: the record is of another plan.
    """
    size, noise = steering.size, steering.noise
    record.check_plan(plan)
    sampler, scale = PlanSampler(plan), float(record.start.flatten(1).std()) or 1.0
    request = SampleRequest(
        record.samples, noise=record, guidance=list(side.guidance), condition=side.condition,
        batch_size=steering.batch_size, dtype=record.start.dtype, device=record.start.device,
    )  # fmt: skip
    ends: list[tuple[list[Tensor], Tensor]] = []
    for chunk in sampler.chunks(request, side.denoiser, spec):
        rows, source = [record.selected(chunk.samples).draws[m] for m in record.draws], NoiseSource(spec, steering.seed)
        z = [chunk.first / scale, *rows]

        def made(values: Sequence[Tensor], chunk=chunk) -> Tensor:  # type: ignore[no-untyped-def]
            given = replace(record.selected(chunk.samples), draws=dict(zip(record.draws, values[1:], strict=True)))
            return execute(
                plan, chunk.denoiser, values[0] * scale, noise=given, condition=chunk.condition,
                operations=chunk.operations, differentiable=True,
            )  # fmt: skip

        for step in range(steering.steps):
            with torch.enable_grad():
                free = [each.detach().requires_grad_() for each in z]
                samples = made(free)
                terms = [-each.square().sum() / 2 for each in free]
                terms += [-weight * energy(samples).sum() for weight, energy in steering.energies]
                slopes = torch.autograd.grad(torch.stack(terms).sum(), free)
            numbers = range(STEERING + step * len(z), STEERING + (step + 1) * len(z))
            drawn = [source.draw(chunk.samples, number, z[0].dtype, z[0].device) for number in numbers]
            z = [
                each + size / 2 * slope + noise * size**0.5 * xi
                for each, slope, xi in zip(z, slopes, drawn, strict=True)
            ]
        ends.append((z, made(z)))
    joined = [torch.cat(parts) for parts in zip(*(z for z, _ in ends), strict=True)]
    clean = torch.cat([each for _, each in ends])
    return replace(
        record,
        start=joined[0] * scale,
        draws=dict(zip(record.draws, joined[1:], strict=True)),
        clean=clean,
        residual=torch.zeros_like(clean),
    )
