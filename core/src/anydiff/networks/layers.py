"""Small parts shared by the backbones: space-to-depth for any dimension, attention, padding, option checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number

__all__ = [
    "SelfAttention",
    "attention_heads",
    "check_input",
    "crop",
    "depth_to_space",
    "group_norm",
    "in_full_precision",
    "pad_to_multiple",
    "probability",
    "space_to_depth",
    "spatial_shape",
    "whole_numbers",
    "zero_initialised",
]

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def space_to_depth(x: Tensor, patch: int) -> Tensor:
    """[B, C, *(n_i·p)] -> [B, C·p^d, *n]: each patch of p^d positions becomes channels (C slowest)."""
    if patch == 1:
        return x
    batch, channels, *sizes = x.shape
    dimensions = len(sizes)
    split = [batch, channels]
    for size in sizes:
        split += [size // patch, patch]
    inner = [3 + 2 * axis for axis in range(dimensions)]
    outer = [2 + 2 * axis for axis in range(dimensions)]
    coarse = [size // patch for size in sizes]
    return x.reshape(split).permute(0, 1, *inner, *outer).reshape(batch, channels * patch**dimensions, *coarse)


def depth_to_space(x: Tensor, patch: int) -> Tensor:
    """[B, C·p^d, *n] -> [B, C, *(n_i·p)]: the inverse of :func:`space_to_depth`."""
    if patch == 1:
        return x
    batch, channels, *sizes = x.shape
    dimensions = len(sizes)
    split = [batch, channels // patch**dimensions, *[patch] * dimensions, *sizes]
    order = [0, 1]
    for axis in range(dimensions):
        order += [2 + dimensions + axis, 2 + axis]
    return x.reshape(split).permute(order).reshape(batch, split[1], *[size * patch for size in sizes])


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Append zeros at the far end of each spatial axis of [B, C, *n] until ``multiple`` divides its size."""
    missing = [-size % multiple for size in x.shape[2:]]
    if not any(missing):
        return x
    # functional.pad counts axes from the last one, (before, after) each.
    return functional.pad(x, [amount for gap in reversed(missing) for amount in (0, gap)])


def crop(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Keep the first ``sizes`` positions of each spatial axis of [B, C, *n]: undoes :func:`pad_to_multiple`."""
    for axis, size in enumerate(sizes):
        x = x.narrow(2 + axis, 0, size)
    return x


def zero_initialised(module: ModuleType) -> ModuleType:
    """Set all parameters of ``module`` to zero, and return it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the largest number of groups up to 16 that divides ``channels``."""
    groups = next(count for count in range(min(16, channels), 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens: [B, N, C] -> [B, N, C], without norm or residual."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend from every token to every token of the same sample."""
        batch, count, channels = tokens.shape
        mixed = self.query_key_value(tokens).reshape(batch, count, 3, self.heads, channels // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.project(attended.transpose(1, 2).reshape(batch, count, channels))  # type: ignore[no-any-return]


def in_full_precision(module: nn.Module, x: Tensor) -> Tensor:
    """Run ``module`` in the precision of its parameters, autocast or not (the last layer decides the rounding)."""
    with torch.autocast(x.device.type, enabled=False):
        return module(x.to(next(module.parameters()).dtype))  # type: ignore[no-any-return]


def spatial_shape(network: str, spec: Any) -> tuple[int, tuple[int, ...]]:
    """Return (channels, spatial sizes) of a state of shape (C, *spatial) with 1 to 3 spatial axes.

    Raises:
        AnydiffError: the state is flat or has more than three spatial axes.
    """
    shape = tuple(int(size) for size in spec.shape)
    if not 2 <= len(shape) <= 4:
        raise AnydiffError(
            f"network {network!r} needs a state of shape (channels, *spatial) with 1 to 3 spatial axes, "
            f"but the state has shape {shape}; use 'mlp' for flat states."
        )
    return shape[0], shape[1:]


def check_input(x: Tensor, shape: Sequence[int]) -> None:
    """Raise an AnydiffError unless ``x`` is [B, *shape]."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise AnydiffError(f"the state has shape {tuple(x.shape)}, but the network expects (batch, *{tuple(shape)}).")


def whole_numbers(field: str, values: Any, minimum: int) -> tuple[int, ...]:
    """Return ``values`` (a list or tuple) as a tuple of whole numbers of at least ``minimum``."""
    if not isinstance(values, (list, tuple)):
        raise AnydiffError(f"{field} is {values!r}, but must be a list of whole numbers.")
    return tuple(natural_number(f"{field}[{index}]", value, minimum) for index, value in enumerate(values))


def probability(field: str, value: Any) -> float:
    """Return ``value`` as a float in [0, 1), or raise an AnydiffError naming ``field``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 or math.isnan(value):
        raise AnydiffError(f"{field} is {value!r}, but must be a number from 0 to below 1.")
    return float(value)


def attention_heads(field: str, channels: int, heads: int) -> int:
    """Return ``heads`` if it divides ``channels``, else raise an AnydiffError naming ``field``."""
    if channels % natural_number(field, heads):
        raise AnydiffError(f"{field} is {heads}, but must divide the {channels} channels it attends over.")
    return heads
