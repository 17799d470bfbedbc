"""Denoising with a time for each block of an order, beside clean positions (ACDiT, ARFlow, Ca2-VDM)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.call import Call
from anydiff.objectives.denoising import Denoising
from anydiff.paths.path import Path
from anydiff.states import Order, StateSpec

Layout = Literal["independent", "sorted", "prefix"]


class BlockDenoising(Denoising):
    """:class:`Denoising` of a denoiser with an order, whose blocks have times of their own.

    The loss of a sample is the mean over its positions. The network sees beside the noised positions the clean ones of
    the blocks before.

    Args:
        weighting: as for :class:`Denoising`.
        times: law of the times of blocks.
        gamma: as for :class:`Denoising`.
        times_mean: as for :class:`Denoising`.
        times_std: as for :class:`Denoising`.
        layout: ``independent``: each block has a time of its own (ACDiT); ``sorted``: so it is, and the noisiest is
            first (ARFlow); ``prefix``: the first k blocks are clean, k uniform from 0 to the number of blocks less one,
            all others share one time, and the clean ones have no weight (Ca2-VDM).

    Raises:
        UnknownNameError: no such weighting, law or layout.
        AnydiffError: ``gamma`` or ``times_std`` is not positive.
    """

    def __init__(
        self,
        weighting: str = "uniform",
        times: str | None = None,
        gamma: float = 5.0,
        times_mean: float | None = None,
        times_std: float | None = None,
        layout: Layout = "independent",
    ) -> None:
        super().__init__(weighting, times, gamma, times_mean, times_std)
        if layout not in get_args(Layout):
            raise UnknownNameError("layout", layout, get_args(Layout))
        self.layout = layout
        self.order: Order | None = None

    def prepare(self, denoiser: Denoiser) -> None:
        """Take the order of the denoiser.

        Raises:
            AnydiffError: it has none, or one that differs between samples.
        """
        order = denoiser.order
        if order is None or not order.shared:
            raise AnydiffError(
                "block-denoising needs a network with an order that all samples share (acdit, say), but this one has "
                f"{'none' if order is None else 'an order for each sample'}; choose another network, or the objective "
                "denoising."
            )
        self.order = order

    def uniform_shape(self, spec: StateSpec) -> tuple[int, ...]:
        """One number per block; two where a prefix is clean."""
        return (2,) if self.layout == "prefix" else (self._order.count,)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times ``[B, L]`` of the positions, from the numbers of :meth:`uniform_shape`."""
        turns = torch.tensor(self._order.turns, device=uniform.device)
        if self.layout == "prefix":
            clean = self._clean(uniform)
            return torch.where(clean, float(path.t_end), self.law(path, uniform[:, 0])[:, None])
        made = self.law(path, uniform)
        if self.layout == "sorted":
            made = made.sort(dim=1, descending=True).values
        return made[:, turns]

    def loss(self, call: Call) -> Tensor:
        """Loss per example ``[B]``; the positions of a clean prefix have no weight."""
        if self.layout != "prefix":
            return super().loss(call)
        weights = (~self._clean(call.uniform)).to(call.clean)
        weights = weights.reshape(*weights.shape, *[1] * (call.clean.ndim - 2)).expand(call.clean.shape)
        own = call.entry_weights
        return self.squared_error(call, weights if own is None else own * weights)

    def _clean(self, uniform: Tensor) -> Tensor:
        """Bool ``[B, L]``: which positions lie in the clean prefix."""
        turns = torch.tensor(self._order.turns, device=uniform.device)
        return turns < torch.floor(uniform[:, 1:] * self._order.count)

    @property
    def _order(self) -> Order:
        if self.order is None:
            raise AnydiffError("block-denoising was not prepared for a denoiser; call prepare(denoiser) first.")
        return self.order
