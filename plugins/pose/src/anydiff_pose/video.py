"""Frames from arrays, a folder of pictures, an ``.npz``, or a video file where a decoder is installed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anydiff.errors import AnydiffError, FileFormatError

Frames = NDArray[np.uint8]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")

MISSING = 0.03
"""Share of its announced frames that a video may lack, and two more: containers round, and frame rates vary."""


def read_frames(source: str | Path | Sequence[Any] | Frames) -> Frames:
    """Frames uint8 ``[T, height, width, 3]``.

    Args:
        source: an array ``[T, H, W, 3]`` or ``[T, H, W]`` (grey) of uint8, or a list of such frames; a folder of
            pictures (:func:`picture_files`); an ``.npz`` or ``.npy`` (array ``frames``); a video file.

    Raises:
        AnydiffError: nothing there, no frames, frames of different size, or no decoder.
        FileFormatError: a file that is truncated or of another kind.
    """
    if not isinstance(source, (str, Path)):
        return _stacked(
            [np.asarray(frame) for frame in source], [f"frame {i}" for i in range(len(source))], "the array"
        )
    path = Path(source)
    if path.is_dir():
        files = picture_files(path)
        if not files:
            raise AnydiffError(f"the folder {str(path)!r} holds no pictures ({', '.join(PICTURES)}); check the path.")
        return _stacked([_picture(file) for file in files], [repr(str(file)) for file in files], repr(str(path)))
    if not path.is_file():
        raise AnydiffError(f"frames are asked from {str(path)!r}, which does not exist; give a folder, .npz or video.")
    if path.suffix.lower() in (".npz", ".npy"):
        return _array(path)
    if path.suffix.lower() in VIDEOS:
        return _video(path)
    raise FileFormatError(f"{str(path)!r} is no folder, .npz, .npy or video ({', '.join(VIDEOS)}); convert it.")


def picture_files(folder: Path) -> list[Path]:
    """The pictures in ``folder`` in the order of time: by name, numbers by value (``2.png`` before ``10.png``)."""

    def key(file: Path) -> tuple[list[tuple[int, str]], str]:
        parts = re.split(r"([0-9]+)", file.name)
        return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)], file.name

    return sorted((file for file in folder.iterdir() if file.suffix.lower() in PICTURES), key=key)


def _stacked(frames: Sequence[NDArray[Any]], names: Sequence[str], where: str) -> Frames:
    if not frames:
        raise AnydiffError(f"{where} holds no frames; give at least one.")
    for name, frame in zip(names, frames, strict=True):
        if frame.dtype != np.uint8:
            raise AnydiffError(
                f"{name} of {where} holds {frame.dtype} values, but frames are uint8; scale and convert it."
            )
        if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
            raise AnydiffError(f"{name} of {where} has shape {frame.shape}, but must be [height, width, 3] or grey.")
        if frame.shape[:2] != frames[0].shape[:2]:
            first, other = ("x".join(map(str, each.shape[1::-1])) for each in (frames[0], frame))
            raise AnydiffError(
                f"{name} is {other} pixels, but {names[0]} is {first}; a video has frames of one size: resize them."
            )
    colour = [np.repeat(frame[..., None], 3, axis=2) if frame.ndim == 2 else frame for frame in frames]
    return np.ascontiguousarray(np.stack(colour))


def _picture(file: Path) -> Frames:
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise FileFormatError(f"{str(file)!r} is no readable picture ({error}); replace or remove it.") from error


def _array(path: Path) -> Frames:
    try:
        loaded = np.load(path, allow_pickle=False)
        values = loaded if isinstance(loaded, np.ndarray) else loaded["frames"]
    except KeyError as error:
        raise FileFormatError(
            f"{str(path)!r} has no array 'frames'; save it with np.savez(path, frames=frames)."
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{str(path)!r} is truncated or no NumPy file ({error}); write it again.") from error
    return _stacked(list(values), [f"frame {i}" for i in range(len(values))], repr(str(path)))


def _video(path: Path) -> Frames:
    try:
        import imageio.v3 as imageio
    except ImportError as error:
        raise AnydiffError(
            f"{str(path)!r} is a video, for which no decoder is installed; `pip install anydiff-pose[video]`, or give "
            "a folder of pictures."
        ) from error
    frames, announced = [], 0
    try:
        about = imageio.immeta(path)
        # Decoders end a file that was cut without a word, but its header says how long it was.
        if {"fps", "duration"} <= set(about) and np.isfinite(about["duration"]):
            announced = int(about["fps"] * about["duration"])
        for frame in imageio.imiter(path):
            frames.append(np.asarray(frame)[..., :3] if np.ndim(frame) == 3 else np.asarray(frame))
    except (OSError, ValueError, EOFError, SyntaxError, IndexError, RuntimeError, StopIteration) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        decoders = (find_spec("imageio_ffmpeg"), find_spec("av"))
        missing = path.suffix.lower() != ".gif" and not any(decoders)
        fix = (
            "`pip install anydiff-pose[video]`, or give a folder of pictures"
            if missing
            else "it is truncated or damaged: get it again"
        )
        raise FileFormatError(
            f"{str(path)!r} cannot be decoded after {len(frames)} frames ({reason[0]}); {fix}."
        ) from error
    if len(frames) < (1 - MISSING) * announced - 2:
        raise FileFormatError(
            f"{str(path)!r} ends after {len(frames)} of about {announced} frames; it is truncated: get it again."
        )
    return _stacked(frames, [f"frame {i}" for i in range(len(frames))], repr(str(path)))
