"""Frames from arrays, a folder of pictures, an ``.npz``, or a video file where a decoder is installed.

Pictures are read by the core's one reader (:mod:`anydiff.data.frames`), videos by ffmpeg: the frames that are coded,
each once, turned as the file says, with the times at which they are shown. Frames are put into one array as they come,
so that reading takes little more memory than they.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from anydiff.data import read_array
from anydiff.data.frames import Conversion, check_depth, frame_bytes, picture_bytes, read_picture
from anydiff.data.frames import picture_files as pictures_of
from anydiff.data.reading import check_declared_size, reading
from anydiff.domains.kit import missing, require
from anydiff.errors import AnydiffError, FileFormatError

Frames = NDArray[np.uint8]
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
PAGES = (".gif", ".webp", ".tif", ".tiff", ".avif")
"""Files of several pictures, which Pillow reads."""
RGB = Conversion(channels=3)

ALPHA = re.compile(r"fmt:(rgba|bgra|argb|abgr|yuva|gbrap|ya8|ya16|pal8)")
"""What ffmpeg calls frames with an alpha channel, or with a palette that may have one."""
MISSING = 0.03
"""Share of its announced length that a video may lack, and two frames: containers round."""


@dataclass(frozen=True, eq=False)
class Footage:
    """A video in memory.

    Attributes:
        frames: uint8 ``[T, height, width, 3]``.
        names: of the files in a folder of pictures, else None.
        times: at which the frames are shown, seconds ``[T]``, as a video or an animation says; else None.
    """

    frames: Frames
    names: tuple[str, ...] | None = None
    times: NDArray[np.float64] | None = None


def read_frames(source: str | Path | Sequence[Any] | Frames, conversion: Conversion = RGB) -> Frames:
    """Frames uint8 ``[T, height, width, 3]``; arguments and errors as of :func:`read_footage`."""
    return read_footage(source, conversion).frames


def read_footage(source: str | Path | Sequence[Any] | Frames, conversion: Conversion = RGB) -> Footage:
    """Frames with their names and times.

    Args:
        source: an array ``[T, H, W, 3]`` or ``[T, H, W]`` (grey), or a list of such frames; a folder of pictures
            (:func:`picture_files`); an ``.npz`` or ``.npy`` (array ``frames``); an animation or a video file.
        conversion: how numbers of more than eight bits and transparent pixels become RGB.

    Raises:
        AnydiffError: nothing there, no frames, frames of different size, or no decoder.
        FileFormatError: a file that is truncated or of another kind, or values that ``conversion`` does not convert.
    """
    if not isinstance(source, (str, Path)):
        return Footage(_from_arrays(source, "the array", conversion))
    path = Path(source).expanduser()
    if path.is_dir():
        files = picture_files(path)
        stack = _Stack(repr(str(path)), len(files))
        for file in files:
            stack.add(read_picture(file, conversion), repr(str(file)))
        return Footage(stack.array(), tuple(file.name for file in files))
    if not path.is_file():
        raise AnydiffError(f"frames are asked from {str(path)!r}, which does not exist; give a folder, .npz or video.")
    kind = path.suffix.lower()
    if kind in (".npz", ".npy"):
        return Footage(_from_arrays(_array(path), repr(str(path)), conversion))
    if kind in PAGES:
        return _animation(path, conversion)
    if kind in VIDEOS:
        return _video(path)
    raise FileFormatError(
        f"{str(path)!r} is no folder, .npz, .npy, animation ({', '.join(PAGES)}) or video ({', '.join(VIDEOS)}); "
        "convert it."
    )


def picture_files(folder: Path) -> list[Path]:
    """The pictures in ``folder`` in the order of time: by name, numbers by value (``2.png`` before ``10.png``).

    Raises:
        AnydiffError: no pictures, or pictures of a kind that is not read; files that are none are counted in a warning.
    """

    def key(file: Path) -> tuple[list[tuple[int, str]], str]:
        parts = re.split(r"([0-9]+)", file.name)
        return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)], file.name

    return sorted(pictures_of(folder), key=key)


class _Stack:
    """Frames of one size, put into one array as they come.

    Args:
        where: they come from, for errors.
        expected: how many there may be; the array grows if there are more.
    """

    def __init__(self, where: str, expected: int) -> None:
        self.where, self.count, self.first = where, 0, ""
        self.room = max(1, expected)
        self.values: Frames | None = None

    def add(self, frame: Frames, name: str) -> None:
        """Keep a frame ``[H, W, 3]``, ``[H, W, 1]`` or ``[H, W]``."""
        if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] not in (1, 3)):
            raise AnydiffError(
                f"{name} of {self.where} has shape {frame.shape}, but must be [height, width, 3] or grey."
            )
        if self.values is None:
            self.first = name
            self.values = np.empty((self.room, *frame.shape[:2], 3), dtype=np.uint8)
        if frame.shape[:2] != self.values.shape[1:3]:
            first, other = ("x".join(map(str, shape[::-1])) for shape in (self.values.shape[1:3], frame.shape[:2]))
            raise AnydiffError(
                f"{name} is {other} pixels, but {self.first} is {first}; a video has frames of one size: resize them."
            )
        if self.count == len(self.values):
            self._resize(self.count + max(16, self.count // 8))
        self.values[self.count] = frame if frame.ndim == 3 else frame[..., None]
        self.count += 1

    def array(self) -> Frames:
        """All frames.

        Raises:
            AnydiffError: there is none.
        """
        if self.values is None:
            raise AnydiffError(f"{self.where} holds no frames; give at least one.")
        self._resize(self.count)
        return self.values

    def _resize(self, count: int) -> None:
        assert self.values is not None
        shape = (count, *self.values.shape[1:])
        declared = int(np.prod(shape, dtype=np.float64))
        # Only the machine's memory bounds what was decoded already: videos compress without limit.
        check_declared_size(declared, self.where, f"a video of {count} frames", stored=declared)
        # In place, so that large arrays are not copied.
        self.values.resize(shape, refcheck=False)


def _from_arrays(source: Any, where: str, conversion: Conversion) -> Frames:
    """Frames given as an array or a list of arrays; bytes of the right shape are not copied."""
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 4 and source.shape[3] == 3:
        if not len(source):
            raise AnydiffError(f"{where} holds no frames; give at least one.")
        return np.ascontiguousarray(source)
    stack = _Stack(where, len(source))
    for number, frame in enumerate(source):
        stack.add(frame_bytes(frame, f"frame {number} of {where}", conversion.value_range), f"frame {number}")
    return stack.array()


def _array(path: Path) -> NDArray[Any]:
    values = read_array(path, "frames")
    if values.ndim not in (3, 4):
        raise FileFormatError(
            f"the frames of {str(path)!r} have shape {values.shape}, but must be [T, height, width, 3] or grey."
        )
    return values


# Animations and videos ------------------------------------------------------------------------------------------------


def _animation(path: Path, conversion: Conversion) -> Footage:
    """Every page of a file that Pillow reads; times where the pages have durations (milliseconds)."""
    from PIL import Image

    advice = "it is truncated or damaged: get it again"
    with reading(path, "an animation", advice):
        image = Image.open(path)
    with image:
        with reading(path, "an animation", advice):
            pages = int(getattr(image, "n_frames", 1))
        check_depth(image, repr(str(path)))
        check_declared_size(
            3 * image.width * image.height * pages, path, f"{pages} x {image.width}x{image.height} pixels"
        )
        stack, durations = _Stack(repr(str(path)), pages), []
        for page in range(pages):
            with reading(path, "an animation", advice):
                image.seek(page)
                image.load()
                durations.append(image.info.get("duration"))
            stack.add(picture_bytes(image, f"page {page + 1} of {str(path)!r}", conversion), f"page {page + 1}")
    times = None if None in durations else np.cumsum([0.0, *durations[:-1]]) / 1000
    return Footage(stack.array(), times=times)


def _video(path: Path) -> Footage:
    """The coded frames of a video, by ffmpeg: one PPM picture each on a pipe, their times in its log."""
    command = [
        _ffmpeg(path), "-nostdin", "-hide_banner",
        # A file that names others (a playlist) must not make ffmpeg open a connection.
        "-protocol_whitelist", "file", "-i", f"file:{path.resolve()}", "-map", "0:v:0",
        # As they are coded: the default repeats frames up to a constant rate.
        "-fps_mode", "passthrough", "-vf", "showinfo=checksum=0",
        "-pix_fmt", "rgb24", "-f", "image2pipe", "-vcodec", "ppm", "-",
    ]  # fmt: skip
    stack = _Stack(repr(str(path)), 0)
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process:
            try:
                for number, frame in enumerate(_portable_pixmaps(process.stdout)):
                    stack.add(frame, f"frame {number}")
            except BaseException:
                process.kill()
                raise
        log.seek(0)
        told = log.read().decode("utf-8", "replace")
    if process.returncode or not stack.count:
        raise FileFormatError(
            f"{str(path)!r} cannot be decoded after {stack.count} frames ({_complaint(told)}); it is truncated or "
            "damaged: get it again."
        )
    shown = re.findall(r"showinfo.* pts_time:\s*(-?[0-9.]+).* duration_time:\s*([0-9.]+)", told)
    times, lengths = np.array(shown, dtype=np.float64).reshape(-1, 2).T
    known = len(times) == stack.count
    _check_whole(path, times, lengths if known else lengths[:0], told)
    if ALPHA.search(told):
        _check_opaque(path)
    return Footage(stack.array(), times=times if known else None)


def _check_opaque(path: Path) -> None:
    """Refuse a video with transparent pixels: their colour is not told, and what the file has there is never seen."""
    command = [
        _ffmpeg(path), "-nostdin", "-loglevel", "error", "-protocol_whitelist", "file", "-i", f"file:{path.resolve()}",
        "-map", "0:v:0", "-vf", "format=rgba,alphaextract", "-f", "rawvideo", "-pix_fmt", "gray", "-",
    ]  # fmt: skip
    transparent = 0
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(1 << 20):
            transparent += len(piece) - piece.count(255)
    if transparent:
        raise FileFormatError(
            f"{str(path)!r} has {transparent} transparent pixels, whose colour is not told; put it on a background "
            "first, as ffmpeg's filter overlay does."
        )


def _check_whole(path: Path, times: NDArray[np.float64], lengths: NDArray[np.float64], told: str) -> None:
    """Refuse a video whose last frame ends before its header says. Decoders end a file that was cut without a word."""
    header = re.search(r"Duration: (\d+):(\d+):(\d+\.?\d*)", told)
    if header is None or not len(lengths):
        return
    hours, minutes, seconds = (float(part) for part in header.groups())
    announced = 3600 * hours + 60 * minutes + seconds
    gaps = np.diff(times, append=times[-1] + lengths[-1])
    reached = times[-1] - times[0] + gaps.max()
    if reached < (1 - MISSING) * announced - 2 * float(np.median(gaps)):
        raise FileFormatError(
            f"{str(path)!r} ends after {reached:.3g} of {announced:.3g} seconds, {len(times)} frames; it is truncated: "
            "get it again."
        )


def _ffmpeg(path: Path) -> str:
    """The decoder's program."""
    what, install, instead = f"{str(path)!r}, which is a video,", "anydiff-pose[video]", "give a folder of pictures"
    library = require("imageio_ffmpeg", what, install, instead=instead)
    try:
        program: str = library.get_ffmpeg_exe()
    except RuntimeError as error:
        raise missing(what, "ffmpeg", install, reason=str(error), instead=instead) from error
    return program


def _portable_pixmaps(stream: IO[bytes] | None) -> Iterator[Frames]:
    """The PPM pictures of a stream, uint8 ``[height, width, 3]``; the array is used again for the next one."""
    assert stream is not None
    frame = np.empty((0, 0, 3), dtype=np.uint8)
    while stream.readline():
        width, height = (int(size) for size in stream.readline().split())
        stream.readline()
        if frame.shape[:2] != (height, width):
            frame = np.empty((height, width, 3), dtype=np.uint8)
        rest = frame.data.cast("B")
        while len(rest):
            read = stream.readinto(rest)  # type: ignore[attr-defined]
            if not read:
                return
            rest = rest[read:]
        yield frame


def _complaint(told: str) -> str:
    """The first line of ffmpeg's log that says what is wrong."""
    wrong = [line for line in told.splitlines() if re.search(r"error|invalid|not found|no such|matches no", line, re.I)]
    return re.sub(r"^\[[^]]*\]\s*", "", wrong[0]).strip().rstrip(".") if wrong else "no frames"
