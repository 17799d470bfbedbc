"""Predictions of rows that did not change are kept: the cached sampler of RADD (Ou et al. 2024, arXiv:2406.03736).

On a masked path a network that is not told the time gives the same prediction as long as the state is the same. With n
steps of equal length a state of L entries changes in n (1 - (1 - 1/n)^L) of them on average, and in at most L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import NotApplicableError
from anydiff.paths.categorical import categorical
from anydiff.states import Conditioning


@dataclass
class _Memory:
    """What the rows of the last call were, and what was predicted of them."""

    x: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Unchanged(Wrapper):
    """Only rows that changed since the last call and still hold a mask reach the network; samples are the same.

    Put it innermost. The memory is of one run; a call of another number of rows begins it anew.
    """

    memory: _Memory = field(default_factory=_Memory, repr=False, compare=False)

    def for_run(self, samples: Sequence[int]) -> Wrapper:
        """The same with an empty memory."""
        return replace(self, memory=_Memory())

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The prediction of ``kind``; rows without a mask keep the last one.

        Raises:
            NotApplicableError: a denoiser that is told the time, or a path on which classes are replaced.
        """
        path = categorical(denoiser.path, "the guidance 'unchanged'")
        if path.share < 1 or not denoiser.time_free:
            why = f"{path!r} replaces classes" if path.share < 1 else "this network is told the time"
            raise NotApplicableError(
                f"the guidance 'unchanged' keeps predictions of states that stay, but {why}; leave it out, or train on "
                "the path masked with network.options.reads_time=false."
            )
        return convert(denoiser, x, t, self._logits(denoiser, x, t, path.bound, condition), "logits", kind, condition)

    def _logits(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, classes: int, condition: Conditioning
    ) -> Tensor:
        memory = self.memory
        before = memory.x if memory.x is not None and memory.x.shape == x.shape else None
        asked = (x >= classes).flatten(1).any(1)
        if before is not None:
            asked &= (x != before).flatten(1).any(1)
        rows = asked.nonzero()[:, 0]
        kept = memory.logits if before is not None else None
        if len(rows) == len(x):
            kept = denoiser.predict(x, t, "logits", condition)
        elif len(rows) or kept is None:
            rows = rows if len(rows) else torch.zeros(1, dtype=torch.int64, device=x.device)
            times = t[rows] if isinstance(t, Tensor) and t.ndim else t
            made = denoiser.predict(x[rows], times, "logits", condition.rows(rows))
            kept = made.new_zeros(len(x), *made.shape[1:]) if kept is None else kept.clone()
            kept[rows] = made
        memory.x, memory.logits = x.clone(), kept
        return kept
