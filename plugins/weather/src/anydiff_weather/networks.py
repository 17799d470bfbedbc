"""The network of SEEDS at small scale: axial attention on the grid, conditioned on a set of seed members.

Each seed member is encoded on its own by shared weights; the noisy field then attends, at each place, over the members
and the climatology (the paper's attention along the input axis), along each axis of the grid in turn, and mixes
neighbours by a short convolution. No weight knows the number or order of the members, so the prediction is invariant
under their permutation, and any number of members can be given.

Beside the encoded members the network is told their mean and standard deviation at each place, the two numbers from
which an ensemble of two can be rebuilt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks import ConditionEmbedding
from anydiff.networks.layers import SelfAttention, attention_heads, check_input, in_full_precision, zero_initialised
from anydiff.states import UNCONDITIONAL, ArrayCondition, Conditioning, StateSpec


class _Neighbours(nn.Module):
    """Convolution of width 3 along one axis of ``[B, *grid, C]``, zero beyond the edge or around the circle."""

    def __init__(self, width: int, periodic: bool) -> None:
        super().__init__()
        self.mode = "circular" if periodic else "constant"
        self.convolution = nn.Conv1d(width, width, 3)

    def forward(self, rows: Tensor) -> Tensor:
        """``rows [N, length, C]``."""
        padded = functional.pad(rows.transpose(1, 2), (1, 1), mode=self.mode)
        mixed: Tensor = self.convolution(padded)
        return mixed.transpose(1, 2)


def along(axis: int, values: Tensor, function: nn.Module) -> Tensor:
    """``function`` of the rows ``[N, length, C]`` of ``values [B, *grid, C]`` along grid axis ``axis``."""
    moved = values.movedim(axis + 1, -2)
    return function(moved.flatten(0, -3)).reshape(moved.shape).movedim(-2, axis + 1)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Over inputs, along each axis, then per place; each part a residual with its own scale and shift."""

    def __init__(self, width: int, heads: int, sizes: Sequence[int], periodic: Sequence[bool]) -> None:
        super().__init__()
        # An axis of one place has nothing to mix.
        self.axes = [axis for axis, size in enumerate(sizes) if size > 1]
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(len(self.axes) + 2))
        self.film = nn.Linear(width, 2 * width * len(self.norms))
        self.query = nn.Linear(width, width)
        self.collect = zero_initialised(nn.Linear(width, width))
        self.heads = heads
        self.attention = nn.ModuleList(SelfAttention(width, heads) for _ in self.axes)
        self.neighbours = nn.ModuleList(_Neighbours(width, periodic[axis]) for axis in self.axes)
        self.mixed = nn.ModuleList(zero_initialised(nn.Linear(width, width)) for _ in self.axes)
        self.entry = nn.Linear(width, 2 * width)
        self.exit = zero_initialised(nn.Linear(2 * width, width))

    def forward(self, hidden: Tensor, embedding: Tensor, inputs: Tensor, shown: Tensor) -> Tensor:
        """``hidden [B, *grid, C]``, ``embedding [B, C]``, ``inputs [B, *grid, M, C]``, ``shown [B, M]``."""
        places = [1] * (hidden.ndim - 2)
        scales = self.film(embedding).reshape(len(hidden), *places, len(self.norms), 2, -1).unbind(-3)

        def normed(part: int) -> Tensor:
            scale, shift = scales[part].unbind(-2)
            return self.norms[part](hidden) * (1 + scale) + shift  # type: ignore[no-any-return]

        hidden = hidden + self.collect(self._over_inputs(self.query(normed(0)), inputs, shown))
        for number, axis in enumerate(self.axes):
            value = normed(number + 1)
            mixed = along(axis, value, self.attention[number]) + along(axis, value, self.neighbours[number])
            hidden = hidden + self.mixed[number](functional.silu(mixed))
        return hidden + self.exit(functional.silu(self.entry(normed(len(self.norms) - 1))))  # type: ignore[no-any-return]

    def _over_inputs(self, query: Tensor, inputs: Tensor, shown: Tensor) -> Tensor:
        """Attention from each place to the shown inputs of the same place, which are keys and values alike."""
        shape = query.shape
        query = query.reshape(*shape[:-1], 1, self.heads, -1)
        keys = inputs.reshape(*inputs.shape[:-1], self.heads, -1)
        logits = (query * keys).sum(-1) / math.sqrt(keys.shape[-1])
        hidden = ~shown.reshape(len(shown), *[1] * (query.ndim - 4), -1, 1)
        weight = torch.softmax(logits.masked_fill(hidden, -math.inf), dim=-2)
        return (weight[..., None] * keys).sum(-3).reshape(shape)


class SetAxialAttention(nn.Module):
    """Axial attention conditioned on a set of member fields: ``[B, C, *grid] -> [B, C, *grid]``.

    Reads the conditions ``members [B, K, C, *grid]`` (any K, in any order) and ``climatology [B, C, *grid]``; all
    others are embedded with the noise level.

    Args:
        spec: a state (channels, *grid) with 1 to 3 axes of the grid.
        conditions: must hold ``members`` and ``climatology``.
        width: channels inside.
        blocks: number of blocks.
        heads: attention heads.
        periodic: for each axis of the grid whether its ends are neighbours (longitudes).

    Raises:
        AnydiffError: an option out of range, or a condition missing.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Any] | None = None,
        *,
        width: int = 64,
        blocks: int = 4,
        heads: int = 4,
        periodic: Sequence[bool] = (False, True),
    ) -> None:
        super().__init__()
        given = dict(conditions or {})
        self.shape = tuple(spec.shape)
        channels, *sizes = self.shape
        if not 2 <= len(self.shape) <= 4:
            raise AnydiffError(
                f"the state has shape {self.shape}, but must be (channels, *grid) with 1 to 3 grid axes."
            )
        if len(periodic) != len(sizes):
            raise AnydiffError(f"periodic is {list(periodic)}, but the grid has {len(sizes)} axes; give one per axis.")
        for name in ("members", "climatology"):
            if not isinstance(given.get(name), ArrayCondition):
                raise AnydiffError(
                    f"this network reads the condition {name!r}, but the conditions are {sorted(given)}."
                )
        attention_heads("heads", natural_number("width", width), heads)
        natural_number("blocks", blocks)
        self.conditions = {name: given[name] for name in ("members", "climatology")}
        vectors = {name: kind for name, kind in given.items() if not isinstance(kind, ArrayCondition)}
        self.conditioning = ConditionEmbedding(vectors, width)
        self.places = nn.ParameterList(nn.Parameter(0.5 * torch.randn(size, width)) for size in sizes if size > 1)
        self.place_axes = [axis for axis, size in enumerate(sizes) if size > 1]
        self.member_entry = nn.Linear(channels, width)
        self.member_mixing = nn.ModuleList(_Neighbours(width, periodic[axis]) for axis in self.place_axes)
        self.member_exit = nn.Linear(width, width)
        self.climatology_entry = nn.Linear(channels, width)
        self.nulls = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in ("members", "climatology")})
        self.entry = nn.Linear(4 * channels, width)
        self.blocks = nn.ModuleList(_Block(width, heads, sizes, periodic) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.width = width
        self.exit = zero_initialised(nn.Linear(width, channels))

    def encode_condition(self, condition: Conditioning = UNCONDITIONAL) -> Conditioning:
        """The condition with the encoded members and climatology beside them; made once per case by samplers."""
        members, climatology = condition.given.get("members"), condition.given.get("climatology")
        if members is not None and "members" not in condition.parts:
            self._check("members", members, (members.shape[1] if members.ndim > 1 else 0, *self.shape))
            fields = members.to(self.entry.weight.dtype).movedim(2, -1)
            tokens = self.member_entry(fields) + self._place()
            flat = tokens.flatten(0, 1)
            for axis, mixing in zip(self.place_axes, self.member_mixing, strict=True):
                flat = flat + functional.silu(along(axis, flat, mixing))
            spread = fields.std(dim=1, correction=0)
            condition = condition.with_parts(
                "members",
                tokens=self.member_exit(flat).unflatten(0, fields.shape[:2]).movedim(1, -2),
                field=torch.cat([fields.mean(dim=1), spread], dim=-1),
            )
        if climatology is not None and "climatology" not in condition.parts:
            self._check("climatology", climatology, self.shape)
            field = climatology.to(self.entry.weight.dtype).movedim(1, -1)
            tokens = (self.climatology_entry(field) + self._place()).unsqueeze(-2)
            condition = condition.with_parts("climatology", tokens=tokens, field=field)
        return condition

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction ``[B, C, *grid]`` from the scaled state and λ ``[B]``."""
        return self.read(self.features(x, log_snr, condition), x, self.exit)

    def features(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """What the last layer reads, ``[B, *grid, width]``; arguments as for :meth:`forward`."""
        check_input(x, self.shape)
        encoded = self.encode_condition(condition)
        embedding = self.conditioning(log_snr, len(x), encoded.without(("members", "climatology")))
        noisy = x.to(self.entry.weight.dtype).movedim(1, -1)
        members = self._source(encoded, "members", noisy, 2 * self.shape[0])
        climatology = self._source(encoded, "climatology", noisy, self.shape[0])
        tokens, fields, shown = zip(members, climatology, strict=True)
        hidden = self.entry(torch.cat([noisy, *fields], dim=-1)) + self._place()
        for block in self.blocks:
            hidden = block(hidden, embedding, torch.cat(tokens, dim=-2), torch.cat(shown, dim=1))
        return functional.silu(self.norm(hidden))

    def read(self, features: Tensor, x: Tensor, exit: nn.Module) -> Tensor:
        """A prediction like the state ``x`` from the features, by a last layer."""
        return in_full_precision(exit, features).movedim(-1, 1).to(x.dtype)

    def pooled(self, features: Tensor) -> Tensor:
        """One vector per sample, ``[B, width]``: the mean over all places."""
        return features.flatten(1, -2).mean(1)

    def _source(self, encoded: Conditioning, name: str, noisy: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens ``[B, *grid, M, C]``, fields ``[B, *grid, channels]`` and which tokens count ``[B, M]``.

        Where the condition is absent or hidden one null token counts, and the fields are zero.
        """
        null = self.nulls[name].expand(*noisy.shape[:-1], 1, -1)
        nothing = noisy.new_zeros(*noisy.shape[:-1], channels)
        if name not in encoded.parts:
            return null, nothing, torch.ones(len(noisy), 1, dtype=torch.bool, device=noisy.device)
        token, field = (encoded.parts[name][part] for part in ("tokens", "field"))
        counts = torch.ones(len(noisy), token.shape[-2], dtype=torch.bool, device=noisy.device)
        if name in encoded.present:
            present = encoded.presence(name)
            rows = present.reshape(-1, *[1] * (noisy.ndim - 1))
            token, field = torch.where(rows[..., None], token, null), torch.where(rows, field, nothing)
            counts = present[:, None] | (torch.arange(counts.shape[1], device=noisy.device) == 0)
        return token, field, counts

    def _place(self) -> Tensor:
        """Sum of one embedding per axis of the grid ``[*grid, C]``."""
        total = self.entry.weight.new_zeros(*[1] * (len(self.shape) - 1), self.entry.out_features)
        for axis, table in zip(self.place_axes, self.places, strict=True):
            shape = [1] * (len(self.shape) - 1)
            shape[axis] = len(table)
            total = total + table.reshape(*shape, -1)
        return total

    @staticmethod
    def _check(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(value.shape[1:]) != shape or 0 in shape:
            raise AnydiffError(f"condition {name!r} has shape {tuple(value.shape)}, but must be [B, {shape}].")
