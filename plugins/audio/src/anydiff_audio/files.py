"""Sound files by libsndfile: WAV of 8, 16, 24 and 32 bits or floats, FLAC, OGG; folders of them."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anydiff.data.reading import check_declared_size, reading
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder, atomic_path, check_suffix
from anydiff_audio.sound import PCM16, Sound

READ = (".wav", ".flac", ".ogg")
"""Endings that are read."""
SUFFIXES = ("", ".wav", ".flac")
"""What :func:`write_sounds` takes; ``""`` is a folder of WAV files. OGG loses samples and is read alone."""
_ADVICE = "write it again as WAV or FLAC"
_END_OF_STREAM = 4


def read_sound(path: str | Path) -> Sound:
    """The recording in a file, its samples exactly as stored (float32 holds 24 bits).

    Raises:
        AnydiffError: it does not exist.
        FileFormatError: no sound, cut short, or with values that are no samples.
    """
    import soundfile

    source = Path(path)
    if source.suffix.lower() not in READ:
        raise FileFormatError(f"{str(source)!r} ends in {source.suffix!r}, but sounds are read from {', '.join(READ)}.")
    with reading(source, "a sound file", _ADVICE):
        _check_whole(source)
        with soundfile.SoundFile(source) as file:
            check_declared_size(file.frames * file.channels * 8, source, f"its {file.frames} frames")
            promised, rate = file.frames, int(file.samplerate)
            values = file.read(dtype="float64", always_2d=True)
    if len(values) != promised:
        raise FileFormatError(
            f"{str(source)!r} promises {promised} frames, but holds {len(values)}, so it is cut short; {_ADVICE}."
        )
    if not values.size:
        raise FileFormatError(f"{str(source)!r} holds no samples; record it again or leave it out.")
    try:
        return Sound(values.T.astype(np.float32), rate, source.stem)
    except AnydiffError as error:
        raise FileFormatError(f"in {str(source)!r}, {error}") from error


def _check_whole(path: Path) -> None:
    """Refuse a WAV whose header promises more than the file holds, and an OGG whose last page is missing.

    libsndfile reads both without a word, as far as they go.
    """
    content = path.read_bytes()
    if content[:4] in (b"RIFF", b"RIFX"):
        order = "<" if content[:4] == b"RIFF" else ">"
        place = 12
        while place + 8 <= len(content):
            name, size = content[place : place + 4], struct.unpack(f"{order}I", content[place + 4 : place + 8])[0]
            held = len(content) - place - 8
            if name == b"data":
                if size > held:
                    raise FileFormatError(
                        f"{str(path)!r} promises {size} bytes of samples, but holds {held}, so it is cut short; "
                        f"{_ADVICE}."
                    )
                return
            place += 8 + size + size % 2
        raise FileFormatError(f"{str(path)!r} is a WAV file without samples (it has no chunk 'data'); {_ADVICE}.")
    if content[:4] == b"OggS":
        last = content.rfind(b"OggS")
        if len(content) < last + 27 or not content[last + 5] & _END_OF_STREAM:
            raise FileFormatError(f"{str(path)!r} ends before its stream does, so it is cut short; {_ADVICE}.")


def sound_files(folder: Path) -> list[Path]:
    """The sound files of a folder, by name; others are left out, and counted in a warning.

    Raises:
        AnydiffError: there is none.
    """
    if not folder.is_dir():
        raise AnydiffError(f"the folder of sounds {str(folder)!r} does not exist; check path.")
    inside = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    found = [each for each in inside if each.suffix.lower() in READ]
    if not found:
        raise AnydiffError(f"{str(folder)!r} holds no sound ({', '.join(READ)}); check path.")
    if len(found) < len(inside):
        other = next(each.name for each in inside if each not in found)
        warnings.warn(
            f"{str(folder)!r} holds {len(inside) - len(found)} files that are no sounds ({other!r} is the first), "
            "which are left out.",
            stacklevel=3,
        )
    return found


def read_sounds(path: Path) -> list[Sound]:
    """The recording in a file, or all of a folder in the order of their names."""
    if path.is_dir():
        return [read_sound(file) for file in sound_files(path)]
    return [read_sound(path)]


def write_sounds(sounds: Sequence[Sound], path: Path) -> None:
    """Write one ``.wav`` or ``.flac``, or a folder of WAV files, whole or not at all.

    Samples that 16 bits hold are written with 16; others as floats (WAV) or with 24 (FLAC).
    """
    kind = check_suffix(path, SUFFIXES, "sounds")
    if kind:
        if len(sounds) != 1:
            raise AnydiffError(f"{str(path)!r} is one file, but {len(sounds)} sounds were given; name a folder.")
        with atomic_path(path) as temporary:
            _write(sounds[0], temporary, kind)
        return
    digits = max(4, len(str(len(sounds) - 1)))
    with atomic_folder(path) as folder:
        for number, sound in enumerate(sounds):
            told = f"-{sound.name}" if sound.name and not set(sound.name) & set("/\\\0") else ""
            _write(sound, folder / f"{number:0{digits}d}{told}.wav", ".wav")


def _write(sound: Sound, path: Path, kind: str) -> None:
    import soundfile

    scaled = sound.samples.astype(np.float64) * PCM16
    whole = bool((scaled == np.rint(scaled)).all() and scaled.max() < PCM16)
    subtype = "PCM_16" if whole else ("FLOAT" if kind == ".wav" else "PCM_24")
    values = sound.pcm16() if whole else sound.samples
    soundfile.write(path, values.T, sound.rate, subtype=subtype, format=kind[1:].upper())
