"""The noises of samples that are already there: a plan is inverted, run on the data, and its draws are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.editing.inversion import KEEP, Trajectory, inverted
from anydiff.editing.record import NoiseRecord, fixed_order, plan_hash
from anydiff.errors import AnydiffError
from anydiff.samplers import PlanSampler, SampleRequest
from anydiff.samplers.sampler import Chunk
from anydiff.solvers.executor import execute
from anydiff.solvers.plan import Plan
from anydiff.states.spec import StateSpec


@dataclass(frozen=True)
class _Inverter(PlanSampler):
    """Runs an inverted plan on data and keeps what is solved for.

    Attributes:
        kept: number of the draw (0: the start) -> its rows, chunk by chunk.
    """

    kept: dict[int, list[Tensor]] = field(default_factory=dict)

    def draw(self, chunk: Chunk) -> Tensor:
        """What the plan gives with the noises that were found."""

        def keep(z: Tensor, *, t: float, draw: int) -> Tensor:
            found = z.clone()
            self.kept.setdefault(draw, []).append(found)
            return found

        return execute(
            self.plan, chunk.denoiser, chunk.first, noise=chunk.noise, condition=chunk.condition,
            operations={**chunk.operations, KEEP: keep}, callbacks=chunk.callbacks,
        )  # fmt: skip

    def whole(self, draw: int) -> Tensor:
        """All rows of a draw."""
        parts = self.kept.pop(draw)
        return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def invert(
    plan: Plan, denoiser: Denoiser, clean: Tensor, spec: StateSpec | Sequence[int],
    trajectory: Trajectory = "independent", facts: Mapping[str, str] | None = None, **request: Any,
) -> NoiseRecord:  # fmt: skip
    """The start and draws with which ``plan`` gives the samples ``clean``, up to the residual that is stored too.

    The network calls are those of the plan. Sample k depends on (seed, k) and its own data alone.

    Args:
        plan: stochastic; it may begin at any node (``skip``).
        denoiser: with which it will be run.
        clean: x_0 ``[n, *shape]``, in the type in which the record will be replayed.
        spec: what one sample is, or its shape.
        trajectory: of the targets: ``independent`` or ``native``; see :mod:`anydiff.editing.inversion`.
        facts: what the record belongs to, beside solver, trajectory and seed.
        request: the fields of a :class:`~anydiff.samplers.SampleRequest`: ``count`` (the indices of the rows; in order
            by default), ``seed``, ``condition``, ``guidance``, ``batch_size``, ...

    Raises:
        AnydiffError: the plan cannot be inverted, or the data are not finite or of another shape.
    """
    spec = spec if isinstance(spec, StateSpec) else StateSpec.single(tuple(spec))
    spec.check(clean)
    if not bool(torch.isfinite(clean).all()):
        raise AnydiffError("the samples to invert are not finite in all entries; check them where they were made.")
    made = inverted(plan, denoiser.path, trajectory, denoiser.sigma_data)
    asked = {"count": range(len(clean)), "dtype": clean.dtype, "device": clean.device, **request}
    indices = range(asked["count"]) if isinstance(asked["count"], int) else asked["count"]
    wanted = replace(SampleRequest(**{**asked, "count": indices}), start=clean, noise=None)
    inverter = _Inverter(made)
    made_of = [inverter.draw(chunk) for chunk in inverter.chunks(wanted, denoiser, spec)]
    result = made_of[0] if len(made_of) == 1 else torch.cat(made_of)
    about = {"solver": plan.solver, "trajectory": trajectory, "seed": str(wanted.seed), **(facts or {})}
    start, numbers = inverter.whole(0), sorted(set(inverter.kept) - {0})
    return NoiseRecord(
        samples=tuple(indices),
        plan=plan_hash(plan),
        time=plan.nodes[0],
        start=start,
        draws={number: inverter.whole(number) for number in numbers},
        clean=clean,
        residual=torch.sub(clean, result, out=result),
        fixed=fixed_order(spec),
        facts=about,
    )
