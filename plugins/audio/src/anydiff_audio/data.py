"""Sounds as data: the spoken numbers inside this package."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash, domain_of_data
from anydiff.errors import natural_number
from anydiff.states import Conditioning
from anydiff_audio.domain import Sounds
from anydiff_audio.files import read_sound
from anydiff_audio.names import LABELS, NUMBERS, RATE, SAMPLES, VOICES
from anydiff_audio.sound import PCM16

FOLDER = Path(__file__).with_name("numbers")
QUIET = 0.01
"""Share of a recording's largest value below which its ends are silence."""
MARGIN = 160
"""Samples of silence that are kept at both ends."""
BEGIN = 400
"""Where the speech of an unchanged recording begins in a state."""


@dataclass(frozen=True)
class Augmentation:
    """How copies of a recording differ; each is drawn evenly.

    Attributes:
        speed: largest change of the speed, and of the pitch with it, as a share.
        gain: largest change of the loudness, dB.
        shift: largest move, samples.
        noise: loudest white noise, dB below full scale; the faintest is 20 dB below that.
    """

    speed: float = 0.05
    gain: float = 4.0
    shift: int = 320
    noise: float = -55.0


class Numbers(Dataset):
    """The numbers 0 to 20, 30, 40, ..., 90, each spoken once in five languages: 140 recordings (demonstration size).

    Example i is recording i mod 140 with seeded changes of speed, loudness, place and noise; the first 140 training
    examples are the recordings as they are. The test split holds other changes of the same recordings, since there is
    one of each: scores on it say how well the recordings were learnt, and nothing of numbers that were never heard.

    Args:
        split: ``"train"`` or ``"test"``.
        copies: of each recording, in the training split.
        seed: of the changes.
        domain: the recipe's.
    """

    name = "audio/numbers"

    def __init__(self, split: Split = "train", copies: int = 20, seed: int = 0, domain: Domain | None = None) -> None:
        check_split(split)
        self._sounds = domain_of_data(Sounds, domain, {"rate": RATE, "samples": SAMPLES, "class_names": LABELS})
        self.split, self.seed = split, int(seed)
        self.copies = natural_number("copies", copies) if split == "train" else 2
        self.augmentation = Augmentation()
        self._spoken = recordings()

    @property
    def domain(self) -> Sounds:
        """The codec of these sounds."""
        return self._sounds

    @property
    def statistics(self) -> dict[str, Any]:
        """Numbers and voices in the order of their classes."""
        return {"class_names": self._sounds.class_names}

    @property
    def hash(self) -> str:
        """sha256 of the recordings and of how they are changed."""
        about = {"split": self.split, "copies": self.copies, "seed": self.seed, **asdict(self.augmentation)}
        return content_hash(json.dumps(about, sort_keys=True), *self._spoken)

    def __len__(self) -> int:
        return len(self._spoken) * self.copies

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, 1, N]``, and ``number`` and ``voice``, long ``[B]``."""
        rows = [int(index) for index in torch.as_tensor(list(indices), dtype=torch.long).tolist()]
        rows = [row % len(self) for row in rows]
        states = np.stack([self._example(row) for row in rows]) if rows else np.zeros((0, self._sounds.samples))
        places = torch.tensor(rows, dtype=torch.long) % len(self._spoken)
        given = {"number": places % len(NUMBERS), "voice": places // len(NUMBERS)}
        return torch.from_numpy(states).float()[:, None], Conditioning(
            {name: given[name] for name in self._sounds.class_names}
        )

    def _example(self, index: int) -> NDArray[np.float64]:
        copy, place = divmod(index, len(self._spoken))
        samples = self._spoken[place].astype(np.float64) / PCM16
        if self.split == "train" and copy == 0:
            return placed(samples, BEGIN, self._sounds.samples)
        drawn = np.random.default_rng([self.seed, self.split == "test", copy, place])
        return augmented(samples, self.augmentation, drawn, self._sounds.samples)


def placed(samples: NDArray[np.float64], begin: int, length: int) -> NDArray[np.float64]:
    """``samples`` from ``begin`` on, or earlier where they would not fit, in silence of ``length``."""
    made = np.zeros(length)
    begin = max(0, min(begin, length - len(samples)))
    made[begin : begin + len(samples)] = samples[:length]
    return made


def augmented(
    samples: NDArray[np.float64], how: Augmentation, drawn: np.random.Generator, length: int
) -> NDArray[np.float64]:
    """A copy with changes that ``drawn`` decides, rounded to 16 bits."""
    import soxr

    speed, gain, shift, noise = drawn.uniform(-1, 1, 4)
    factor = max(1 + how.speed * speed, len(samples) / (length - 1))
    changed = soxr.resample(samples, RATE * factor, RATE, quality="HQ")[:length]
    made = placed(changed, BEGIN + round(how.shift * shift), length)
    made += drawn.normal(size=length) * 10 ** ((how.noise - 10 * (1 - noise)) / 20)
    made *= min(10 ** (how.gain * gain / 20), 0.999 / np.abs(made).max())
    return np.asarray(np.rint(made * PCM16) / PCM16)


@functools.cache
def recordings() -> tuple[NDArray[np.int16], ...]:
    """The recordings as 16-bit samples without the silence at their ends, voice by voice, each in order of numbers."""
    found = []
    for voice in VOICES:
        for number in NUMBERS:
            samples = read_sound(FOLDER / voice / f"{number:02d}.flac").pcm16()[0]
            found.append(trimmed(samples))
    return tuple(found)


def trimmed(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """From the first sample that is heard to the last, with a margin."""
    heard = np.flatnonzero(np.abs(samples.astype(np.int32)) > QUIET * np.abs(samples.astype(np.int32)).max())
    return samples[max(0, heard[0] - MARGIN) : heard[-1] + MARGIN + 1]
