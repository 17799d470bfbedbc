"""SDEdit: noise is added to a sample up to a level, and any plan goes down from there on the other side.

Meng et al., "SDEdit: guided image synthesis and editing with stochastic differential equations", ICLR 2022 (arXiv
2108.01073). Nothing is inverted, so it works with every plan and every path, that of classes included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.editing.method import Edit, EditMethod, Side
from anydiff.paths.path import Path
from anydiff.solvers.executor import DrawsNoise
from anydiff.solvers.start import Start
from anydiff.states import Conditioning


@dataclass(frozen=True, eq=False)
class Noised(Start):
    """Samples with noise of the level at ``time``; draw 0 of each sample's own stream.

    Attributes:
        clean: ``[n, *shape]``.
        indices: the index of each row.
        time: the level.
    """

    clean: Tensor
    indices: Sequence[int]
    time: float

    def __repr__(self) -> str:
        return f"{len(self.clean)} noised samples"

    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """α_t x_0 + σ_t ε, or what the path makes of data."""
        places = {index: row for row, index in enumerate(self.indices)}
        clean = self.clean[[places[sample] for sample in samples]].to(like.device)
        drawn = noise.draw(samples, 0, like.dtype, like.device)
        times = torch.full((len(samples),), self.time, dtype=torch.float64, device=like.device)
        return path.noised(times, clean, drawn, condition).to(like)


def resampled(edit: Edit, side: Side, clean: Tensor, skip: float, solver: str) -> Tensor:
    """``clean`` noised to where ``skip`` of the steps are over, and taken down from there by the plan's tail."""
    plan = edit.travel.plan(side.denoiser.path, solver, skip)
    return edit.run(side, plan, start=Noised(clean, edit.indices, plan.nodes[0]))


@dataclass(frozen=True)
class SDEdit(EditMethod):
    """Noise up to a level, and down again on the target's side.

    Args:
        skip: share of the noisiest steps that are left out, in [0, 1): the more, the nearer to the sample.
    """

    skip: float = 0.5

    def edited(self, edit: Edit) -> Tensor:
        """See :meth:`EditMethod.edited`."""
        return resampled(edit, edit.target, edit.clean, self.skip, self.solver)
