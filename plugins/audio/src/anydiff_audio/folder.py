"""A user's own sounds as data: a folder, with a sub-folder for each class or none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from anydiff.data import ArrayDataset
from anydiff.domains import Domain
from anydiff.domains.kit import SPLITS, Split, check_split, domain_of_data, every_tenth
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning
from anydiff_audio.domain import Sounds
from anydiff_audio.files import read_sound, sound_files
from anydiff_audio.sound import Sound

LABEL = "label"
"""The condition that names the class of a sound of a folder."""


class SoundFolder(ArrayDataset):
    """A user's own sounds: one sub-folder per class, or no sub-folders and no classes.

    Sub-folders ``train`` and ``test`` are the splits where both exist; otherwise every tenth sound (in order of name,
    within each class) is the test split. A sound shorter than a state is followed by silence.

    Args:
        path: the folder.
        split: ``"train"`` or ``"test"``.
        samples: of one state; the longest sound's by default, of both splits.
        resample: whether sounds of other rates are brought to the domain's; else they are refused.
        mono: whether the channels of a sound become their mean; else several are refused where one is wanted.
        classes: the names of the class folders in the order of their numbers; by default sorted.
        domain: the recipe's.
    """

    name = "audio/folder"

    def __init__(
        self,
        path: str | Path,
        split: Split = "train",
        samples: int | None = None,
        resample: bool = False,
        mono: bool = False,
        classes: Sequence[str] | None = None,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        folder = Path(path).expanduser()
        files, names = _files(folder, classes)
        owner = domain if isinstance(domain, Sounds) else None
        kept = {each: _read(files[each], owner, resample, mono) for each in SPLITS}
        first = next((sound for sound, _ in kept["train"]), None)
        if first is None or not kept[split]:
            raise AnydiffError(
                f"the {split} split of {str(folder)!r} is empty, for it is every tenth sound of a folder; give ten or "
                "more of a class, or put folders train and test into it."
            )
        longest = max(sound.frames for part in kept.values() for sound, _ in part)
        labels = {LABEL: names} if names else None
        own = {"rate": first.rate, "channels": first.channels, "samples": samples or longest, "class_names": labels}
        fits = owner is not None and (owner.class_names or None) == labels and samples in (None, owner.samples)
        self._sounds = domain_of_data(Sounds, owner if fits else None, own)
        states = self._sounds.encode([sound for sound, _ in kept[split]])
        super().__init__(states, {LABEL: np.array([place for _, place in kept[split]])} if names else None)

    @property
    def domain(self) -> Sounds:
        """The codec of these sounds."""
        return self._sounds

    @property
    def statistics(self) -> dict[str, Any]:
        """Rate, length, channels and class names of these sounds."""
        found = self._sounds
        same = {"rate": found.rate, "samples": found.samples, "channels": found.channels}
        return {**same, "class_names": found.class_names or None}

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, C, N]`` and, with classes, ``label``, long ``[B]``."""
        return super().batch(indices)


def _files(folder: Path, classes: Sequence[str] | None) -> tuple[dict[str, list[tuple[Path, int]]], list[str]]:
    """The files of each split with the number of their class, and the names of all classes."""
    if not folder.is_dir():
        raise AnydiffError(f"the folder of sounds {str(folder)!r} does not exist; check path.")
    official = all((folder / name).is_dir() for name in SPLITS)
    roots = {name: folder / name if official else folder for name in SPLITS}
    groups = {name: _folders(root) for name, root in roots.items()}
    found = [each.name for each in groups["train"]]
    names = [str(each) for each in classes] if classes is not None else found
    for name in SPLITS:
        here = [each.name for each in groups[name]]
        if sorted(names) != here and (classes is not None or set(here) - set(names) or bool(here) != bool(names)):
            raise AnydiffError(
                f"{str(roots[name])!r} has the class folders {here}, but the classes are {names}; name each of "
                "them once."
            )
        loose = [each.name for each in roots[name].iterdir() if each.is_file() and not each.name.startswith(".")]
        if here and loose:
            raise AnydiffError(
                f"{str(roots[name])!r} holds both sub-folders and the file {sorted(loose)[0]!r}; put every sound into "
                "the folder of its class, or none."
            )
    if official and (other := [each.name for each in _folders(folder) if each.name not in SPLITS]):
        warnings.warn(
            f"{str(folder)!r} holds {len(other)} folders beside train and test ({other[0]!r} is the first), which are "
            "left out.",
            stacklevel=3,
        )
    files: dict[str, list[tuple[Path, int]]] = {}
    for name in SPLITS:
        files[name] = []
        for group in groups[name] or [roots[name]]:
            inside = sound_files(group)
            chosen = inside if official else [inside[place] for place in every_tenth(len(inside), name)]
            files[name] += [(file, names.index(group.name) if names else 0) for file in chosen]
    return files, names


def _folders(root: Path) -> list[Path]:
    return sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _read(
    files: Sequence[tuple[Path, int]], domain: Sounds | None, resample: bool, mono: bool
) -> list[tuple[Sound, int]]:
    """The sounds of files, refused at the first whose rate or channels are not those of the domain or the first."""
    found: list[tuple[Sound, int]] = []
    for file, place in files:
        sound = read_sound(file)
        sound = sound.mono() if mono else sound
        rate = domain.rate if domain else (found[0][0].rate if found else sound.rate)
        channels = domain.channels if domain else (found[0][0].channels if found else sound.channels)
        if sound.rate != rate and not resample:
            raise AnydiffError(
                f"{str(file)!r} has a rate of {sound.rate} Hz, but {rate} Hz are wanted; give resample=true to "
                "resample it."
            )
        if sound.channels != channels:
            raise AnydiffError(
                f"{str(file)!r} has {sound.channels} channels, but {channels} are wanted; give mono=true to take "
                "the mean."
            )
        found.append((sound.resampled(rate), place))
    return found
