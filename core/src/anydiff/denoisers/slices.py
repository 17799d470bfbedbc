"""A denoiser of volumes made of one of slices: each slice by itself, in calls of a bounded number of slices."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import natural_number
from anydiff.states import UNCONDITIONAL, Conditioning


class SliceDenoiser(Denoiser):
    """Predictions of states ``[B, ...]`` with an axis of slices, by a denoiser of states without that axis.

    Slices are no rows of a sampler: a sample is a volume, with one stream of noise, and a step that looks across slices
    sees all of them. A call costs one call of the inner denoiser for each ``chunk`` slices, and its memory is that of a
    chunk.

    Args:
        inner: of one slice.
        axis: of the slices among the axes of a volume, without that of the rows.
        chunk: slices per call of ``inner``; it changes nothing beyond the network's own rounding.
    """

    def __init__(self, inner: Denoiser, axis: int = -1, chunk: int = 32) -> None:
        self.inner, self.axis, self.chunk = inner, axis, natural_number("chunk", chunk)
        self.path, self.native_kind, self.sigma_data = inner.path, inner.native_kind, inner.sigma_data

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The prediction of kind ``native_kind``."""
        return self.predict(x, t, self.native_kind, condition)

    def predict(
        self, x: Tensor, t: float | Tensor, kind: PredictionKind = "data", condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """The inner predictions of all slices, as one volume."""
        axis = self.axis + 1 if self.axis >= 0 else x.ndim + self.axis
        moved = x.movedim(axis, 1)
        rows = torch.arange(len(x), device=x.device).repeat_interleave(moved.shape[1])
        slices, told = moved.flatten(0, 1), condition.rows(rows)
        times = t[rows] if isinstance(t, Tensor) and t.ndim else t
        made = []
        for begin in range(0, len(slices), self.chunk):
            part = torch.arange(begin, min(begin + self.chunk, len(slices)), device=x.device)
            at = times[part] if isinstance(times, Tensor) and times.ndim else times
            made.append(self.inner.predict(slices[part], at, kind, told.rows(part)))
        return torch.cat(made).reshape(moved.shape).movedim(1, axis)
