"""Edit-friendly noises: samples are inverted with independent noise at every level, and run again on the other side.

Huberman-Spiegelglas, Kulikov and Michaeli, "An edit friendly DDPM noise space: inversion and manipulations", CVPR 2024
(arXiv 2304.06140), for any stochastic plan: the paper's is ``ddpm`` with 100 calls. The noises of this space are larger
than one and neighbours lean against each other, so they hold the layout of a sample strongly, and keep it while the
condition changes. Other seeds give other edits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from anydiff.editing.method import Edit, EditMethod
from anydiff.editing.record import NoiseRecord


@dataclass(frozen=True)
class EditFriendly(EditMethod):
    """Inversion with independent targets, then the same plan with the same noises on the target's side.

    Args:
        skip: share of the noisiest steps that are left out, in [0, 1): the more, the nearer to the sample.
        change: what is made of the record before it is replayed (a roll, a tint).
    """

    exact = True
    skip: float = 0.3
    change: Callable[[NoiseRecord], NoiseRecord] | None = None

    def edited(self, edit: Edit) -> Tensor:
        """See :meth:`EditMethod.edited`."""
        plan = edit.travel.plan(edit.source.denoiser.path, self.solver, self.skip)
        record = edit.inverted(plan, "independent")
        record = record if self.change is None else self.change(record)
        return record.finished(edit.run(edit.target, plan, noise=record), edit.indices)
