"""What an expert looks at: the waveform of each sound, and its log spectrogram beneath."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.domains.kit.pictures import picture_grid, write_picture
from anydiff.errors import AnydiffError
from anydiff_audio.spectra import log_magnitudes

if TYPE_CHECKING:
    from anydiff_audio.sound import Sound

WIDTH, WAVE, SPECTROGRAM = 256, 49, 96
"""Pixels: of a picture, of its waveform's height and of its spectrogram's."""
DEEPEST = -80.0
"""Decibels below a full sine that are drawn as silence."""
LEAST = 256
"""Samples of the shortest sound that is drawn as it is; shorter ones are followed by silence."""


def draw_sounds(sounds: Sequence[Sound], path: Path, titles: Sequence[str] | None = None) -> None:
    """One picture per sound: first channel, amplitude ±1 above, 0 Hz at the bottom to half the rate below.

    Raises:
        AnydiffError: no sounds, or another number of titles than sounds.
    """
    if not sounds:
        raise AnydiffError("there is no sound to draw; give at least one.")
    if titles and len(titles) != len(sounds):
        raise AnydiffError(f"{len(titles)} titles were given for {len(sounds)} sounds; give one per sound or none.")
    write_picture(picture_grid([_picture(sound) for sound in sounds], titles, gap=6), path)


def _picture(sound: Sound) -> NDArray[np.uint8]:
    samples = sound.samples[0]
    samples = np.pad(samples, (0, max(0, LEAST - len(samples))))
    parts = np.array_split(samples, WIDTH)
    heights = np.linspace(1, -1, WAVE)[:, None]
    low, high = (np.array([cut(part) for part in parts]) for cut in (np.min, np.max))
    half = 1.0 / WAVE
    drawn = (heights >= low - half) & (heights <= high + half)
    wave = np.where(drawn, 40, 255).astype(np.uint8)
    spectrum = log_magnitudes(torch.from_numpy(samples)[None])[0].numpy()
    rows = np.linspace(spectrum.shape[0] - 1, 0, SPECTROGRAM).round().astype(int)
    columns = np.linspace(0, spectrum.shape[1] - 1, WIDTH).round().astype(int)
    loudness = np.clip(1 - spectrum[np.ix_(rows, columns)] / DEEPEST, 0, 1)
    return np.concatenate([wave, (255 * (1 - loudness)).astype(np.uint8)])
