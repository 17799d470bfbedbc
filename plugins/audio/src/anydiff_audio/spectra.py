"""Spectra of sounds: log magnitudes in decibels, and log-mel spectra."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

LENGTH, HOP = 256, 64
"""Samples of a window and between two windows: 32 and 8 ms at 8 kHz."""
FLOOR = 1e-5
"""Added to magnitudes: 100 dB below a full sine."""


def _magnitudes(samples: Tensor) -> Tensor:
    """|S| ``[B, 129, frames]`` of ``samples [B, N]``, a full sine having 1."""
    window = torch.hann_window(LENGTH, dtype=samples.dtype, device=samples.device)
    found: Tensor = torch.stft(samples, LENGTH, HOP, window=window, return_complex=True).abs() * (2 / window.sum())
    return found


def log_magnitudes(samples: Tensor) -> Tensor:
    """Decibels below a full sine ``[B, 129, frames]`` of ``samples [B, N]``; -100 at silence."""
    return 20 * (_magnitudes(samples) + FLOOR).log10()


def log_mel(samples: Tensor, rate: int, bands: int = 40) -> Tensor:
    """Log magnitudes of ``bands`` mel bands ``[B, bands, frames]`` of ``samples [B, N]``, about -1 to 1."""
    weights = _filters(rate, bands).to(samples)
    return ((weights @ _magnitudes(samples)) + FLOOR).log() / 6 + 1


@functools.cache
def _filters(rate: int, bands: int) -> Tensor:
    """Triangles ``[bands, 129]`` at even distances in mel (2595 log10(1 + f/700)), each of sum 1."""
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, bands + 2, dtype=torch.float64) * top / 2595) - 1)
    places = torch.linspace(0, rate / 2, LENGTH // 2 + 1, dtype=torch.float64)
    rising = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    weights = torch.minimum(rising, falling).clamp_min(0) + 1e-6
    return weights / weights.sum(1, keepdim=True)
