"""Sounds of one rate and length as states: samples in [-1, 1], channels first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anydiff.domains import Domain
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import ClassCondition, Conditioning, Leaf, StateSpec
from anydiff_audio.files import SUFFIXES, read_sounds, write_sounds
from anydiff_audio.pictures import draw_sounds
from anydiff_audio.sound import PCM16, Sound, check_rate

if TYPE_CHECKING:
    from anydiff.states import Condition


class Sounds(Domain):
    """Sounds of one rate and length as states ``[B, channels, samples]``.

    A decoded sound has 16 bits: each value is rounded to the nearest of 65,536, so ``decode(encode(sounds))`` gives
    16-bit sounds back exactly. A sound shorter than the states is followed by silence; a longer one is refused.

    Args:
        rate: samples per second.
        samples: of one state, per channel.
        channels: of the sounds.
        class_names: condition -> names of its classes, ``{"voice": ["en", "fr"]}`` say; None without conditions.
    """

    name = "audio"
    suffixes = SUFFIXES

    def __init__(
        self,
        rate: int = 8000,
        samples: int = 10240,
        channels: int = 1,
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.rate = check_rate(rate, "the domain")
        self.samples = natural_number("samples", samples)
        self.channels = natural_number("channels", channels)
        self.class_names = {name: [str(each) for each in classes] for name, classes in (class_names or {}).items()}
        for name, classes in self.class_names.items():
            if not classes or len({each.casefold() for each in classes}) < len(classes):
                raise AnydiffError(f"class_names gives {name!r} {classes}, but each class must have a name of its own.")
        self.condition_help = MappingProxyType({name: name.upper() for name in self.class_names})
        self._spec = StateSpec([Leaf("sound", (self.channels, self.samples), range=(-1.0, 1.0))])

    @property
    def spec(self) -> StateSpec:
        """One leaf named ``sound``, ``(channels, samples)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """The rate, and the classes by their numbers."""
        return {"rate": self.rate, "class_names": self.class_names or None}

    @property
    def conditions(self) -> dict[str, Condition]:
        """One class condition per label."""
        return {name: ClassCondition(len(classes)) for name, classes in self.class_names.items()}

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States of sounds, or of anything that :meth:`~anydiff_audio.sound.Sound.of` takes at this domain's rate.

        Raises:
            AnydiffError: another rate, other channels, or longer than the states; the sentence names the first.
        """
        states = torch.zeros(len(objects), *self.spec.shape)
        for row, (state, given) in enumerate(zip(states, objects, strict=True)):
            sound = self.fitting(Sound.of(given, self.rate), row)
            state[:, : sound.frames] = torch.from_numpy(sound.samples)
        return states

    def fitting(self, sound: Sound, place: int = 0) -> Sound:
        """The sound itself, where it is of this domain; errors as for :meth:`encode`."""
        what = sound.what if sound.name else f"sound {place}"
        if sound.rate != self.rate:
            raise AnydiffError(
                f"{what} has a rate of {sound.rate} Hz, but this domain has {self.rate}; use "
                f"sound.resampled({self.rate})."
            )
        if sound.channels != self.channels:
            fix = "use sound.mono()" if self.channels == 1 else "give as many channels"
            raise AnydiffError(f"{what} has {sound.channels} channels, but this domain has {self.channels}; {fix}.")
        if sound.frames > self.samples:
            raise AnydiffError(
                f"{what} has {sound.frames} samples, but the states of this domain {self.samples} "
                f"({self.samples / self.rate:g} s); cut it, or give the domain samples={sound.frames}."
            )
        return sound

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Sound]:
        """16-bit sounds of ``states [B, C, N]``; values beyond ±1 are cut.

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        self.spec.check(states)
        if not states.isfinite().all():
            raise AnydiffError(
                "the states hold a value that is not finite, so they are no sounds; look at the sampler."
            )
        values = (states.detach().cpu().double() * PCM16).round().clamp(-PCM16, PCM16 - 1) / PCM16
        names = self.describe_condition(condition) if condition is not None else []
        return [
            Sound(each.numpy().astype(np.float32), self.rate, names[row].replace(", ", "-") if names else "")
            for row, each in enumerate(values)
        ]

    def read(self, path: str | Path) -> list[Sound]:
        """The sound in a WAV, FLAC or OGG file, or those of all such files in a folder, sorted by name.

        Raises:
            AnydiffError: nothing there to read.
            FileFormatError: a file that is no sound, or is cut short.
        """
        return read_sounds(Path(path))

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write one ``.wav`` or ``.flac``, or a folder of WAV files.

        Raises:
            AnydiffError: several sounds for one file, a folder that is not empty, or no permission.
        """
        write_sounds([Sound.of(each, self.rate) for each in objects], Path(path))

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write the waveform of each sound with its log spectrogram beneath (PNG)."""
        draw_sounds([Sound.of(each, self.rate) for each in objects], Path(path), titles)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"number": "7", "voice": "en,fr"}`` -> one class per sample; lists are cycled over ``count``.

        Raises:
            UnknownNameError: a class or a condition this domain does not have.
        """
        found: dict[str, Tensor] = {}
        for name, given in text.items():
            if name not in self.class_names:
                raise UnknownNameError("condition", name, self.class_names)
            folded = [each.casefold() for each in self.class_names[name]]
            wanted = []
            for part in (each.strip() for each in str(given).split(",")):
                if part.casefold() not in folded:
                    raise UnknownNameError(name, part, self.class_names[name])
                wanted.append(folded.index(part.casefold()))
            found[name] = torch.tensor([wanted[index % len(wanted)] for index in range(count)])
        return found

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """The classes of each sample, ``7, en``."""
        told = [name for name in self.class_names if name in condition.given]
        if not told:
            return []
        columns = [[self.class_names[name][int(each)] for each in condition.given[name].tolist()] for name in told]
        return [", ".join(row) for row in zip(*columns, strict=True)]
