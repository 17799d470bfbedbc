"""Integer arithmetic of linear layers and convolutions by torch's oneDNN operators on plain int8 tensors.

The only file that names these operators. They are not promised by torch, so :func:`available` tries them once on small
layers whose results are known; where that fails, layers multiply dequantised weights, which is right and not fast.
Activations are uint8 levels with one scale and zero point per call, weights int8 with one scale per output channel.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves; None stands for a linear layer.

    Attributes:
        stride: per axis.
        padding: per axis, zeros.
        dilation: per axis.
        groups: of channels.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class IntegerLayer:
    """A layer with int8 weights, packed once in the order that the operators want.

    Args:
        weight: int8 ``[C_out, ...]``.
        scale: float32 ``[C_out]``.
        bias: float32 ``[C_out]``, or None.
        geometry: of a convolution; None for a linear layer.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, geometry: Geometry | None) -> None:
        self.scale, self.bias, self.geometry = scale.contiguous(), bias, geometry
        self.zeros = torch.zeros(len(scale), dtype=torch.int32)
        operators: Any = torch.ops.onednn
        if geometry is None:
            self.packed = operators.qlinear_prepack(weight, None)
        else:
            moves = (list(geometry.stride), list(geometry.padding), list(geometry.dilation), geometry.groups)
            self.packed = operators.qconv_prepack(weight, self.scale, 1.0, 1, *moves, None)

    def __call__(self, levels: Tensor, scale: float, zero: int) -> Tensor:
        """The layer's result, float32, for the values ``scale (levels - zero)``; levels are uint8 ``[B, ...]``."""
        given = (self.packed, self.scale, self.zeros, self.bias)
        result: Sequence[Any] = (1.0, 0, torch.float32, "none", [], "")
        operators: Any = torch.ops.onednn
        made: Tensor
        if self.geometry is None:
            flat = levels.reshape(-1, levels.shape[-1])
            made = operators.qlinear_pointwise(flat, scale, zero, *given, *result)
            return made.reshape(*levels.shape[:-1], -1)
        each = self.geometry
        moves = (list(each.stride), list(each.padding), list(each.dilation), each.groups)
        made = operators.qconv_pointwise(levels, scale, zero, *given, *moves, *result)
        return made


def reference(
    levels: Tensor, scale: float, zero: int, weight: Tensor, factors: Tensor, geometry: Geometry | None
) -> Tensor:
    """What :class:`IntegerLayer` computes, in floating point and without bias."""
    values = (levels.float() - zero) * scale
    factor = factors.reshape(-1, *[1] * (weight.ndim - 1))
    if geometry is None:
        return functional.linear(values, weight.float() * factor)
    convolve: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.ndim - 3]
    result: Tensor = convolve(
        values, weight.float() * factor, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    )
    return result


@functools.cache
def available() -> bool:
    """Whether this torch, on this machine, has the operators and they compute what they should."""
    generator = torch.Generator().manual_seed(0)

    def right(shape: tuple[int, ...], weight_shape: tuple[int, ...], geometry: Geometry | None) -> bool:
        levels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        weight = torch.randint(-128, 128, weight_shape, generator=generator, dtype=torch.int8)
        factors = torch.rand(weight_shape[0], generator=generator) + 0.1
        made = IntegerLayer(weight, factors, None, geometry)(levels, 0.01, 37)
        wanted = reference(levels, 0.01, 37, weight, factors, geometry)
        return made.shape == wanted.shape and torch.allclose(made, wanted, rtol=1e-4, atol=1e-3)

    try:
        with torch.no_grad():
            return right((3, 8), (5, 8), None) and all(
                right((2, 6, *[5] * axes), (4, 3, *[3] * axes), Geometry((2,) * axes, (1,) * axes, (1,) * axes, 2))
                for axes in (1, 2, 3)
            )
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
