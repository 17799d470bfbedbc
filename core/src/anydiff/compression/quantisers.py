"""Uniform affine quantisers: s (clip(round(v / s) + z, 0, L - 1) - z) with L = 2^bits levels, one (s, z) per channel.

The range always holds 0, so that zeros (padding, what an activation cuts off) stay zeros and z is one of the levels.
Scale search as in TFMQ-DM (Huang et al. 2024, arXiv:2311.16503): of 80 shrunk ranges the one with the least mean
|q(v) - v|^2.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anydiff.errors import AnydiffError, FileFormatError

CANDIDATES = 80
POWER = 2.4
FEWEST_BITS, MOST_BITS = 2, 16


def checked_bits(name: str, bits: int) -> int:
    """``bits`` if it is a whole number from 2 to 16; else an AnydiffError that names it."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not FEWEST_BITS <= bits <= MOST_BITS:
        raise AnydiffError(f"{name} is {bits!r}, but must be a whole number of bits from {FEWEST_BITS} to {MOST_BITS}.")
    return bits


def check_scales(what: str, scale: Tensor, zero: Tensor, bits: int, signed: bool = False) -> None:
    """Refuse scales and zero points that a damaged file gave a quantised layer.

    Args:
        what: they belong to, as a sentence says it.
        scale: of each channel or time.
        zero: points of them.
        bits: of the levels.
        signed: whether a level less its zero point must fit into a signed integer of as many bits.

    Raises:
        FileFormatError: a scale that is not positive, or a zero point out of range.
    """
    low, high = (2 ** (bits - 1),) * 2 if signed else (0, 2**bits - 1)
    if not bool((scale > 0).all()) or not bool(((zero >= low) & (zero <= high)).all()):
        raise FileFormatError(
            f"the {what} of a quantised layer have a scale of {float(scale.min()):g} and zero points from "
            f"{int(zero.min())} to {int(zero.max())}, but scales must be positive and zero points "
            f"{low if low == high else f'levels from {low} to {high}'}; the file is damaged: quantise the model again."
        )


@dataclass(frozen=True)
class Quantiser:
    """One scale and zero point per channel (the first axis of what is quantised), or one for all.

    Attributes:
        bits: 2 to 16.
        scale: float32 ``[C]`` or ``[1]``, positive.
        zero: float32 of the same shape, whole numbers in [0, 2^bits - 1].
    """

    bits: int
    scale: Tensor
    zero: Tensor

    @property
    def top(self) -> int:
        """The last level."""
        return (1 << self.bits) - 1

    def levels(self, values: Tensor) -> Tensor:
        """The level of each value, whole numbers in floating point, of the shape of ``values [C, ...]``."""
        scale, zero = self.like(values)
        return values.div(scale).round_().add_(zero).clamp_(0, self.top)

    def values(self, levels: Tensor) -> Tensor:
        """What the levels stand for."""
        scale, zero = self.like(levels)
        return (levels - zero) * scale

    def __call__(self, values: Tensor) -> Tensor:
        """The nearest values that can be stood for; without gradient."""
        return self.values(self.levels(values.detach()))

    def like(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point as they multiply ``values [C, ...]``."""
        if len(self.scale) == 1:
            return self.scale, self.zero
        shape = (-1, *[1] * (values.ndim - 1))
        return self.scale.reshape(shape), self.zero.reshape(shape)


def of_range(low: Tensor, high: Tensor, bits: int, symmetric: bool = False) -> Quantiser:
    """The quantiser of the range [low, high] and 0, each ``[C]``; a range without extent has scale 1.

    ``symmetric``: z = 2^(bits - 1), so that a level less z fits into a signed integer of that many bits.
    """
    low, high = low.float().clamp_max(0), high.float().clamp_min(0)
    top = 2**bits - 1
    if symmetric:
        middle = 2 ** (bits - 1)
        scale = torch.maximum(high / (middle - 1), -low / middle)
    else:
        scale = (high - low) / top
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)
    zero = torch.full_like(scale, middle) if symmetric else (-low / scale).round().clamp(0, top)
    return Quantiser(bits, scale, zero)


def min_max(values: Tensor, bits: int, *, channels: bool = False, symmetric: bool = False) -> Quantiser:
    """The quantiser of the whole range of ``values [C, ...]``, per channel or for all of them."""
    flat = values.detach().reshape(len(values) if channels else 1, -1)
    if not flat.numel():
        ones = torch.ones(len(flat))
        return of_range(0 * ones, 0 * ones, bits, symmetric)
    return of_range(flat.amin(1), flat.amax(1), bits, symmetric)


def searched(values: Tensor, bits: int, *, channels: bool = False, symmetric: bool = False) -> Quantiser:
    """The best of 80 ranges, (min, max) shrunk by 1 - i/100, by the mean of |q(v) - v|^2.4 of each channel."""
    flat = values.detach().float().reshape(len(values) if channels else 1, -1)
    best = min_max(flat, bits, channels=True, symmetric=symmetric)
    if not flat.numel():
        return best
    low, high, least = flat.amin(1), flat.amax(1), torch.full((len(flat),), torch.inf)
    scale, zero = best.scale.clone(), best.zero.clone()
    for step in range(CANDIDATES):
        shrunk = 1 - 0.01 * step
        found = of_range(low * shrunk, high * shrunk, bits, symmetric)
        error = (found(flat) - flat).abs_().pow_(POWER).mean(1)
        better = error < least
        least = torch.where(better, error, least)
        scale, zero = torch.where(better, found.scale, scale), torch.where(better, found.zero, zero)
    return Quantiser(bits, scale, zero)


def weight_quantiser(weight: Tensor, bits: int, search: bool = True) -> Quantiser:
    """Of a weight ``[C_out, ...]``, per output channel.

    A level less its zero point must fit into int8 for integer arithmetic: it does for fewer than 8 bits, and with 8
    where the zero point is 128.
    """
    return (searched if search else min_max)(weight, bits, channels=True, symmetric=bits == 8)


def raised(values: Tensor, scale: float, zero: int, top: int) -> Tensor:
    """Levels of ``values`` plus a half, which lacks only the cut of the fraction: as few passes as there can be."""
    return torch.add(values.new_full((), zero + 0.5), values, alpha=1 / scale).clamp_(0.5, top + 0.5)


def straight_through(values: Tensor, scale: Tensor | float, zero: Tensor | float, top: int) -> Tensor:
    """The quantised ``values``; the gradient is 1 within the range and 0 outside."""
    if isinstance(scale, float) and not values.requires_grad:
        return (raised(values, scale, int(zero), top).floor_() - zero) * scale
    levels = values / scale + zero
    rounded = levels + (torch.floor(levels + 0.5) - levels).detach()
    return (rounded.clamp(0, top) - zero) * scale


def pack(levels: Tensor, bits: int) -> Tensor:
    """Whole numbers in [0, 2^bits) as uint8, ``bits`` bits each, one behind the other."""
    wide = levels.detach().cpu().flatten().numpy().astype(">u2").view(np.uint8)
    kept = np.unpackbits(wide).reshape(-1, MOST_BITS)[:, MOST_BITS - bits :]
    return torch.from_numpy(np.packbits(kept))


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of ``count`` packed numbers."""
    return -(-count * bits // 8)


def unpack(packed: Tensor, bits: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """What :func:`pack` packed, int32 of ``shape``."""
    count = int(np.prod(shape))
    kept = np.unpackbits(packed.cpu().numpy(), count=count * bits).reshape(-1, bits)
    wide = np.zeros((count, MOST_BITS), dtype=np.uint8)
    wide[:, MOST_BITS - bits :] = kept
    return torch.from_numpy(np.packbits(wide).view(">u2").astype(np.int32)).reshape(shape)
