"""A residual network over time for windows: gated blocks that mix time by dilated convolutions or by a state space.

The blocks are those of TSDiff (Kollovieh et al. 2023, after DiffWave, Kong et al. 2021, arXiv 2009.09761): a mixer over
time, tanh ⊙ sigmoid, a residual and a skip; the sum of the skips is the output. Here the two gates are halves of their
own, the noise level enters by FiLM, and the window enters in patches, which divides the cost.

Two mixers, measured against each other on the page of this domain:

- ``dilated``: convolutions of width 3 with dilations 1, 2, 4, ... and back to 1;
- ``state-space``: a bidirectional diagonal state space (S4D-Lin, Gu et al. 2022, arXiv 2206.11893), one convolution of
  the whole window by FFT with the kernel k(n) = 2 Re Σ_j c_j exp(a_j Δ n).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks import ConditionEmbedding, split_conditions
from anydiff.networks.layers import (
    check_input,
    crop,
    depth_to_space,
    group_norm,
    in_full_precision,
    pad_to_multiple,
    space_to_depth,
    zero_initialised,
)
from anydiff.states import UNCONDITIONAL, ArrayCondition, Conditioning
from anydiff_timeseries.scaling import relative

if TYPE_CHECKING:
    from anydiff.states import StateSpec

MIXERS = ("dilated", "state-space")


class StateSpace(nn.Module):
    """A bidirectional diagonal state space over time: ``[B, W, T] -> [B, 2 W, T]``.

    a_j = -exp(log decay) + i π j (S4D-Lin), Δ per channel; one kernel forward and one backward in time, added, plus a
    direct term, then a 1-wide convolution that mixes the channels.
    """

    def __init__(self, width: int, states: int = 32) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.full((width, states), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(states, dtype=torch.float32).expand(width, states).clone())
        self.log_step = nn.Parameter(torch.linspace(math.log(0.003), math.log(0.3), width))
        self.output = nn.Parameter(torch.randn(2, width, states, 2) * math.sqrt(0.5 / states))
        self.direct = nn.Parameter(torch.ones(width))
        self.mix = nn.Conv1d(width, 2 * width, 1)

    def kernel(self, length: int) -> Tensor:
        """Both kernels ``[2, W, length]``, discretised by zero-order hold."""
        step = self.log_step.exp()[:, None]
        pole = torch.complex(-self.log_decay.exp(), self.frequency)
        time = torch.arange(length, device=step.device)
        decayed = torch.exp((pole * step)[..., None] * time)
        gain = torch.view_as_complex(self.output) * (torch.exp(pole * step) - 1) / pole
        kernel: Tensor = 2 * torch.einsum("dws,wsl->dwl", gain, decayed).real
        return kernel

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x`` over time and channels, in float32 even under autocast."""
        length = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):
            forward, backward = self.kernel(length)
            # One circular kernel of twice the length: the past at its beginning, the future at its end.
            both = functional.pad(forward, (0, length)) + functional.pad(backward.flip(-1), (length, 0))
            spectrum = torch.fft.rfft(x.float(), n=2 * length) * torch.fft.rfft(both)
            mixed = torch.fft.irfft(spectrum, n=2 * length)[..., :length] + self.direct[:, None] * x
        return self.mix(functional.silu(mixed))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, embedding: int, mixer: str, dilation: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.film = nn.Linear(embedding, 2 * width)
        self.mixer: nn.Module
        if mixer == "dilated":
            self.mixer = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        else:
            self.mixer = StateSpace(width)
        self.exit = nn.Conv1d(width, 2 * width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.film(embedding)[..., None].chunk(2, dim=1)
        signal, gate = self.mixer(torch.addcmul(shift, self.norm(x), 1 + scale)).chunk(2, dim=1)
        residual, skip = self.exit(torch.tanh(signal) * torch.sigmoid(gate)).chunk(2, dim=1)
        return x + residual, skip


class WindowNetwork(nn.Module):
    """``[B, C, L] -> [B, C, L]``; see the module.

    Args:
        spec: the state, ``(C, L)``.
        conditions: class and vector conditions enter with the noise level; ``observed (2, L)`` is read where ``reads``
            names it, in units of its level, and left to guidance otherwise.
        width: channels.
        blocks: number of blocks.
        mixer: ``"dilated"`` or ``"state-space"``.
        cycle: dilations 1, 2, ..., 2^(cycle - 1), then from 1 again.
        patch_size: steps that enter together.
        reads: array conditions the network reads; () for an unconditional model.

    Raises:
        UnknownNameError: no such mixer, or ``reads`` names no condition.
        AnydiffError: a state that is not ``(C, L)``.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Any] | None = None,
        *,
        width: int = 64,
        blocks: int = 8,
        mixer: str = "dilated",
        cycle: int = 6,
        patch_size: int = 2,
        reads: tuple[str, ...] | list[str] = (),
    ) -> None:
        super().__init__()
        if len(spec.shape) != 2:
            raise AnydiffError(f"the network needs a state of shape (channels, steps), but it has {tuple(spec.shape)}.")
        if mixer not in MIXERS:
            raise UnknownNameError("mixer", mixer, MIXERS)
        self.shape = tuple(int(size) for size in spec.shape)
        self.patch_size = natural_number("patch_size", patch_size)
        vectors, arrays = split_conditions(conditions or {})
        self.reads = _readable(reads, arrays, self.shape[1])
        self.reads_conditions = (*vectors, *self.reads)
        embedding = 2 * natural_number("width", width)
        self.conditioning = ConditionEmbedding(vectors, embedding)
        channels = self.shape[0] + sum(arrays[name].shape[0] for name in self.reads)
        self.entry = nn.Conv1d(channels * patch_size, width, 1)
        self.blocks = nn.ModuleList(
            _Block(width, embedding, mixer, 2 ** (number % natural_number("cycle", cycle)))
            for number in range(natural_number("blocks", blocks))
        )
        self.norm = group_norm(width)
        self.middle = nn.Conv1d(width, width, 1)
        self.exit = zero_initialised(nn.Conv1d(width, self.shape[0] * patch_size, 1))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction [B, C, L], in the dtype of ``x``, from the scaled state and λ [B]."""
        check_input(x, self.shape)
        vectors = condition.only(self.conditioning.encoder.conditions)
        embedding = self.conditioning(log_snr, x.shape[0], vectors)
        inputs = torch.cat([x, *(self._array(name, x, condition) for name in self.reads)], dim=1)
        patches = space_to_depth(pad_to_multiple(inputs, self.patch_size), self.patch_size)
        hidden = self.entry(patches.to(self.entry.weight.dtype))
        total = torch.zeros_like(hidden)
        for block in self.blocks:
            hidden, skip = block(hidden, embedding)
            total = total + skip
        total = functional.silu(self.middle(functional.silu(self.norm(total))))
        return crop(depth_to_space(in_full_precision(self.exit, total), self.patch_size), x.shape[2:]).to(x.dtype)

    def _array(self, name: str, x: Tensor, condition: Conditioning) -> Tensor:
        """``observed`` in units of its level, zeros where it is absent."""
        value = condition.given.get(name)
        if value is None:
            return x.new_zeros(x.shape[0], 2, self.shape[1])
        if value.shape != (x.shape[0], 2, self.shape[1]):
            raise AnydiffError(
                f"condition {name!r} has shape {tuple(value.shape)}, but must be {(x.shape[0], 2, self.shape[1])}: the "
                "values and the mask."
            )
        # `where`, so that a value that is absent has no influence, NaN or not.
        return torch.where(condition.presence(name)[:, None, None], relative(value.to(x.dtype)), 0)


def _readable(reads: tuple[str, ...] | list[str], arrays: Mapping[str, ArrayCondition], length: int) -> tuple[str, ...]:
    for name in reads:
        if name not in arrays:
            raise UnknownNameError("array condition", name, arrays)
        if arrays[name].shape != (2, length):
            raise AnydiffError(f"condition {name!r} has shape {arrays[name].shape}, but must be (2, {length}).")
    return tuple(reads)
