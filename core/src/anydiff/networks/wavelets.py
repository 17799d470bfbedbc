"""The Haar transform in 1 to 3 dimensions, exact with its inverse, and resampling by gated sub-bands.

Gates after Yang et al. 2023, "Diffusion probabilistic model made slim" (arXiv:2211.17106): a small network weighs the
sub-bands of each sample by what they hold and by the time. One gate per band and sample, softmax over bands, times
their number, so that gates are 1 at the start and magnitudes stay. Uniform gates are no average pooling: the plain
sum of all bands is one corner of each cell, 2^(d/2) times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError
from anydiff.networks.layers import crop, zero_initialised

_ROOT = math.sqrt(0.5)


def haar(x: Tensor) -> Tensor:
    """The sub-bands ``[B, 2^d, C, *half]`` of ``x [B, C, *n]``, d = 1 to 3; orthonormal, so energies add up.

    Band b has the difference along axis k where bit d - 1 - k of b is set, and the mean elsewhere; band 0 is the coarse
    picture, 2^(d/2) times the mean of each cell. Odd sizes are continued by their own reflection, one position.
    """
    for axis in range(2, x.ndim):
        if x.shape[axis] % 2:  # reflected; of one position nothing is left to reflect but itself
            last = x.narrow(axis, max(x.shape[axis] - 2, 0), 1)
            x = torch.cat([x, last], axis)
    bands = x[:, None]
    for axis in range(3, bands.ndim):
        even, odd = _halves(bands, axis)
        bands = torch.stack([(even + odd) * _ROOT, (odd - even) * _ROOT], 2).flatten(1, 2)
    return bands


def inverse_haar(bands: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The array ``[B, C, *n]`` of its sub-bands ``[B, 2^d, C, *half]``; ``sizes`` cuts what odd sizes were given.

    Raises:
        AnydiffError: the number of bands is not 2^d for d axes.
    """
    dimensions = bands.ndim - 3
    if bands.shape[1] != 2**dimensions:
        raise AnydiffError(f"{bands.shape[1]} bands were given, but {dimensions} axes have {2**dimensions}.")
    for axis in reversed(range(3, bands.ndim)):
        low, high = _split(bands, 1).unbind(2)
        pair = torch.stack([(low - high) * _ROOT, (low + high) * _ROOT], axis + 1)
        bands = pair.flatten(axis, axis + 1)
    return bands[:, 0] if sizes is None else crop(bands[:, 0], sizes)


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    even, odd = _split(x, axis).unbind(axis + 1)
    return even, odd


def _split(x: Tensor, axis: int) -> Tensor:
    """An axis of 2 n entries as two axes, of n and 2."""
    return x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])


class Gates(nn.Module):
    """A gate per band and sample ``[B, bands]``, of mean 1, from how much each channel of a band holds and the time."""

    def __init__(self, bands: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.bands = bands
        self.entry = nn.Linear(bands * channels + embedding, embedding)
        self.exit = zero_initialised(nn.Linear(embedding, bands))

    def forward(self, bands: Tensor, embedding: Tensor) -> Tensor:
        """``bands [B, bands, C, *half]`` weighted by their gates."""
        # Details have mean zero by construction: what they hold is told by their size.
        held = bands.abs().flatten(3).mean(3).flatten(1)
        scores = self.exit(functional.silu(self.entry(torch.cat([held, embedding.to(held)], 1))))
        gates: Tensor = self.bands * scores.softmax(1)
        return bands * gates.reshape(*gates.shape, *[1] * (bands.ndim - 2))


class GatedDown(nn.Module):
    """Half the size: the gated sum of the sub-bands, then a convolution of one position."""

    def __init__(self, inputs: int, embedding: int, mixing: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.gates = Gates(2**dimensions, inputs, embedding)
        self.mixing = mixing

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``[B, C_out, *half]`` from ``[B, C_in, *n]``."""
        return self.mixing(self.gates(haar(x), embedding).sum(1))  # type: ignore[no-any-return]


class GatedUp(nn.Module):
    """Twice the size: channels in groups as sub-bands, gated and transformed back, then a convolution of one position.

    Raises:
        AnydiffError: the bands do not divide the channels.
    """

    def __init__(self, inputs: int, embedding: int, mixing: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.gates = Gates(gated_groups(inputs, dimensions), inputs // 2**dimensions, embedding)
        self.mixing = mixing

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``[B, C_out, *2n]`` from ``[B, C_in, *n]``."""
        bands = x.reshape(len(x), self.gates.bands, -1, *x.shape[2:])
        return self.mixing(inverse_haar(self.gates(bands, embedding)))  # type: ignore[no-any-return]


def gated_groups(channels: int, dimensions: int) -> int:
    """The number of sub-bands, which must divide ``channels``."""
    if channels % 2**dimensions:
        raise AnydiffError(
            f"resampling is 'gated-wavelets', but {channels} channels cannot be shared by {2**dimensions} sub-bands; "
            f"choose channels and multipliers whose products are multiples of {2**dimensions}."
        )
    return int(2**dimensions)
