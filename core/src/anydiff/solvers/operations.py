"""The operations that an Apply instruction can name without the caller's help: what is not linear in the state.

An operation is ``f(*registers, t=time, **options) -> Tensor``; its options are plain data, so the plan stays data. Its
row b depends on row b of the registers alone, else a sample would depend on its batch. The core's stand in
:data:`OPERATIONS`; plugins register theirs (``register_operations``), and a caller may hand over functions of a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import UnknownNameError

PSEUDO_ENTRIES = 8
"""How many entries with the score of pure noise stand beside a sample's own in the length of its Langevin step."""


def langevin(
    x: Tensor,
    score: Tensor,
    noise: Tensor,
    *,
    t: float,
    snr: float,
    scale: float,
    sigma: float,
    noise_scale: float = 1.0,
) -> Tensor:
    """One Langevin step x + l (1 + c) ∇ + noise_scale sqrt(2 l) z per sample, of length l = 2 scale (snr/r)².

    r² is what one entry of the sample's score ∇ squares to: r² = (|∇|² + m/σ²)/(d + m), with d the entries that exist
    (those with noise) and m = ``PSEUDO_ENTRIES`` more with the score of pure noise, 1/σ.

    Song et al., ICLR 2021, algorithms 4 and 5, have l = 2 scale (snr mean|z|/mean|∇|)² with means over the batch, so
    that a sample depends on the others it is drawn with. Here each sample has a length of its own, and l is theirs for
    large d. Its own ratio |z|/|∇| as it stands would not do: a sample near a mode has almost no score and jumps far,
    so another law is left (a Gaussian's deviation is 25 % too large in 8 dimensions, and without bound in one). The m
    entries bound the length, d takes the place of |z|², and c = ∇l·∇/(l|∇|²), for the curvature |∇|²/d of a Gaussian,
    is the drift that keeps the law where the length depends on the place: c = 2 |∇|²/(d (|∇|² + m/σ²)). Many short
    steps leave a Gaussian's variance within 2 % for 8 entries and more, and at 0.84 to 0.92 of it for one.

    Args:
        x: states ``[B, *shape]``.
        score: ∇log p_t(x), of the same shape.
        noise: unit noise z; zero exactly at entries that do not exist.
        t: the time; not used.
        snr: length of the step relative to the noise.
        scale: factor on the length.
        sigma: σ_t, the noise level of the states.
        noise_scale: factor on the noise; 1 samples the law.
    """
    count = (noise != 0).flatten(1).sum(dim=1)
    squared = score.flatten(1).square().sum(dim=1)
    total = squared + PSEUDO_ENTRIES / sigma**2
    length = 2 * scale * snr**2 * (count + PSEUDO_ENTRIES) / total
    drift = length * (1 + 2 * squared / (count.clamp(min=1) * total))
    rows = (-1, *[1] * (x.ndim - 1))
    moved: Tensor = x + drift.reshape(rows) * score + noise_scale * torch.sqrt(2 * length).reshape(rows) * noise
    return moved


def leafwise(
    *inputs: Tensor, t: float, operation: str, sizes: Sequence[int], options: Sequence[Mapping[str, Any]]
) -> Tensor:
    """Another operation on each leaf of packed states ``[B, D]``: leaf i has ``sizes[i]`` entries."""
    function = find_operation(operation)
    columns = [torch.split(value.flatten(1), list(sizes), dim=1) for value in inputs]
    parts = [function(*leaf, t=t, **given) for *leaf, given in zip(*columns, options, strict=True)]
    return torch.cat(parts, dim=1).reshape(inputs[0].shape)


def numbers(packed: Tensor, *, t: float, size: int, parts: Sequence[Sequence[int]]) -> Tensor:
    """The continuous leaves of a prediction of a mixed state as a state ``[B, size]``, zero at classes.

    Each of ``parts`` is (where in the state, where in the prediction, how many).
    """
    out = packed.new_zeros(len(packed), size)
    for to, begin, count in parts:
        out[:, to : to + count] = packed[:, begin : begin + count]
    return out


def paste(x: Tensor, values: Tensor, region: Tensor, *, t: float) -> Tensor:
    """``values`` where ``region`` (above 1/2) is, and x elsewhere; all ``[B, *shape]``."""
    return torch.where(region > 0.5, values, x)


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "langevin": langevin,
    "leafwise": leafwise,
    "numbers": numbers,
    "paste": paste,
}


def find_operation(name: str, own: Mapping[str, Callable[..., Tensor]] | None = None) -> Callable[..., Tensor]:
    """The operation called ``name``: one of the caller's ``own``, of the core, or of a plugin.

    Raises:
        UnknownNameError: there is none; suggests the nearest.
        PluginError: a plugin's cannot be loaded.
    """
    for table in (own or {}, OPERATIONS):
        if name in table:
            return table[name]
    from anydiff.registry import registry  # loads plugins, which most plans never need

    known = registry().names("operations")
    if name not in known:
        raise UnknownNameError("operation", name, [*(own or {}), *OPERATIONS, *known])
    found: Callable[..., Tensor] = registry().load("operations", name)
    return found
