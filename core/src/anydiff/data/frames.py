"""Pictures and video frames as bytes ``[H, W, C]``: the one reader of both, which never changes a value in silence.

What a file holds beyond eight bits is converted by a stated rule or refused: 16-bit numbers ``v`` become ``v / 257``,
rounded, and whole or floating-point numbers of other ranges need ``value_range``. A picture is turned as its EXIF
orientation says. Transparent pixels have no colour, so they need a ``background`` unless the alpha channel is kept,
and then the colours hidden under an alpha of zero are black. Further pages are read by :func:`read_pages` or refused
by :func:`read_picture`, never left out.

Pictures need Pillow (``pip install pillow``); :func:`frame_bytes` needs NumPy alone.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anydiff.data.reading import Place, Source, check_declared_size, check_real, finite, located, reading
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.optional import require

__all__ = [
    "FOREIGN",
    "MODES",
    "SUFFIXES",
    "Conversion",
    "check_depth",
    "frame_bytes",
    "picture_bytes",
    "picture_files",
    "read_pages",
    "read_picture",
]

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = NDArray[np.uint8]

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
    ".qoi", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Endings of files that are read as pictures."""
FOREIGN = (
    ".arw", ".cr2", ".cr3", ".dng", ".emf", ".eps", ".exr", ".fits", ".hdr", ".heic", ".heif", ".hif", ".jxl", ".nef",
    ".orf", ".pdf", ".pfm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".wmf", ".xcf",
)  # fmt: skip
"""Endings of pictures that are not read: a folder with such files is refused, not read in part."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels and Pillow's name for them."""
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


@dataclass(frozen=True)
class Conversion:
    """How pictures become bytes; the default changes nothing but what has one reading.

    Attributes:
        channels: 1 (grey, ITU-R 601-2 luma of colours), 3 (RGB) or 4 (RGBA); None keeps what the file has.
        value_range: the two numbers that become 0 and 255, in between linearly, for pictures of more than eight bits;
            None divides 16-bit numbers by 257 and refuses others.
        background: red, green and blue (0 to 255) behind transparent pixels; None refuses them, unless alpha is kept.

    Raises:
        AnydiffError: a value out of range.
    """

    channels: int | None = None
    value_range: tuple[float, float] | None = None
    background: tuple[int, int, int] | None = None

    @classmethod
    def of(
        cls, channels: int | None, value_range: Sequence[float] | None, background: Sequence[int] | None
    ) -> Conversion:
        """A conversion from the lists that recipes hold."""
        low_high: Any = None if value_range is None else tuple(value_range)
        colour: Any = None if background is None else tuple(background)
        return cls(channels, low_high, colour)

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels not in MODES:
            raise AnydiffError(f"channels is {self.channels!r}, but pictures have 1 (grey), 3 (RGB) or 4 (RGBA).")
        if self.value_range is not None:
            low_high = tuple(self.value_range)
            if len(low_high) != 2 or not np.isfinite(low_high).all() or not low_high[0] < low_high[1]:
                raise AnydiffError(f"value_range is {self.value_range!r}, but must be two numbers, the smaller first.")
        colour = self.background
        if colour is not None and (len(colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour)):
            raise AnydiffError(f"background is {colour!r}, but must be red, green and blue from 0 to 255.")


UNCHANGED = Conversion()


def frame_bytes(values: ArrayLike, what: str, value_range: tuple[float, float] | None = None) -> Bytes:
    """Bytes of numbers of any real type, of the same shape.

    Args:
        values: uint8 (unchanged), truth values (0 and 255), uint16 (``v / 257``, rounded to the nearest), or any real
            type with ``value_range``.
        what: what they are, for the sentence: ``"frame 3 of 'a.mp4'"``.
        value_range: the two numbers that become 0 and 255, in between linearly.

    Raises:
        FileFormatError: neither of these types and no range, a value outside of the range, or a range for bytes.
        NonFiniteError: a value is not finite.
    """
    array = np.asarray(values)
    check_real(array.dtype, "a value", Place(what))
    if array.dtype in (np.uint8, np.bool_):
        if value_range not in (None, (0, 255)):
            raise FileFormatError(f"{what} holds bytes, but value_range is {value_range!r}; leave it out for bytes.")
        return array.astype(np.uint8) * (255 if array.dtype == np.bool_ else 1)
    if value_range is None and array.dtype == np.uint16:
        value_range = (0, 65535)
    spread = f"{array.min():g} to {array.max():g}" if array.size else "nothing"
    if value_range is None:
        raise FileFormatError(
            f"{what} holds {array.dtype} values from {spread}, and what black and white are is not told; state it, for "
            f"example value_range=[0, {65535 if array.dtype.kind in 'iu' else 1}]."
        )
    array = finite(array, "a value", Place(what))
    low, high = value_range
    if array.size and (array.min() < low or array.max() > high):
        raise FileFormatError(
            f"{what} holds values from {spread}, outside of value_range {low:g} to {high:g}; widen it."
        )
    return np.rint((array.astype(np.float64) - low) * (255.0 / (high - low))).astype(np.uint8)


# Files --------------------------------------------------------------------------------------------------------------


def picture_files(folder: Source) -> list[Path]:
    """The pictures directly in ``folder``, sorted by name; files that are none are counted in a warning.

    Hidden files and folders are not looked at.

    Raises:
        AnydiffError: no such folder, no pictures in it, or pictures of a kind that is not read.
    """
    root = Path(folder)
    with reading(root, "a folder of pictures", "check the path"):
        files = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    foreign = [path for path in files if path.suffix.lower() in FOREIGN]
    if foreign:
        raise AnydiffError(
            f"{located(root)} holds {len(foreign)} pictures of a kind that is not read ({foreign[0].name!r} is the "
            "first); convert them to PNG or move them elsewhere."
        )
    if not pictures:
        raise AnydiffError(f"{located(root)} holds no pictures ({', '.join(SUFFIXES)}); check the path.")
    others = len(files) - len(pictures)
    if others:
        first = next(path.name for path in files if path not in pictures)
        warnings.warn(
            f"{located(root)} holds {others} files that are no pictures ({first!r} is the first), which are left out; "
            f"{len(pictures)} pictures are read.",
            stacklevel=2,
        )
    return pictures


def read_picture(path: Source, conversion: Conversion = UNCHANGED) -> Bytes:
    """The picture in a file, bytes ``[H, W, C]`` with C of 1, 3 or 4.

    Of a multi-picture JPEG (MPO, as telephones write) this is the primary picture; the others are its previews.

    Raises:
        AnydiffError: the file does not exist or may not be read; Pillow is not installed.
        FileFormatError: no readable picture, several pages, or values that ``conversion`` does not convert.
    """
    with _opened(path) as (image, pages):
        if pages > 1:
            raise FileFormatError(
                f"{located(path)} holds {pages} pages, but one picture is read; write each into a file of its own."
            )
        return picture_bytes(_decoded(image, path), located(path), conversion)


def read_pages(path: Source, conversion: Conversion = UNCHANGED) -> list[Bytes]:
    """Every page of a file (of an animation, every frame); each as :func:`read_picture`, with the same errors."""
    with _opened(path) as (image, pages):
        result = []
        for page in range(pages):
            with reading(path, "a picture", "remove or repair it"):
                image.seek(page)
            where = located(path) if pages == 1 else f"page {page + 1} of {located(path)}"
            result.append(picture_bytes(_decoded(image, path), where, conversion))
        return result


@contextmanager
def _opened(path: Source) -> Iterator[tuple[Image, int]]:
    """A file's picture, not yet decoded, and its number of pages; its declared size is checked."""
    require("PIL", "reading pictures", "pillow")
    from PIL import Image

    with reading(path, "a picture", "remove or repair it"):
        image = Image.open(path)
    with image:
        with reading(path, "a picture", "remove or repair it"):
            pages = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        declared = image.width * image.height * len(image.getbands()) * pages
        check_declared_size(declared, path, f"{pages} x {image.width}x{image.height} pixels")
        check_depth(image, located(path))
        yield image, pages


def check_depth(image: Image, what: str) -> None:
    """Refuse a picture, not yet decoded, of colours of more than eight bits: Pillow would cut each to its upper byte.

    Raises:
        FileFormatError: as above; ``what`` names the picture.
    """
    layout = str([each[3] for each in getattr(image, "tile", [])])
    if image.mode not in _DEEP and re.search(r";1[0-6]", layout):
        raise FileFormatError(
            f"{what} holds colours of 16 bits per channel, which Pillow cuts to eight; convert it to eight bits, or "
            "give the numbers as .npz or .npy."
        )


def _decoded(image: Image, path: Source) -> Image:
    with reading(path, "a picture", "remove or repair it"):
        image.load()
    return image


def picture_bytes(image: Image, what: str, conversion: Conversion = UNCHANGED) -> Bytes:
    """Bytes ``[H, W, C]`` of a decoded Pillow picture, which ``what`` names; errors as of :func:`read_picture`."""
    from PIL import ImageOps

    with reading(Place(what), "a picture", "remove or repair it"):
        upright = ImageOps.exif_transpose(image)
    if upright.mode in _DEEP:
        grey = frame_bytes(_deep_values(upright, image.format), what, conversion.value_range)[..., None]
        return grey if conversion.channels in (None, 1) else _with_channels(grey, conversion)
    if conversion.value_range not in (None, (0, 255)):
        raise FileFormatError(
            f"{what} has eight bits per channel, but value_range is {conversion.value_range!r}; leave it out."
        )
    with reading(Place(what), "a picture", "convert it to RGB"):
        if upright.has_transparency_data:
            return _without_hidden_colours(np.asarray(upright.convert("RGBA")), what, conversion)
        mode = "L" if upright.mode in ("1", "L") else "RGB"
        if conversion.channels is not None:
            upright, mode = upright.convert(mode), MODES[conversion.channels]
        array = np.array(upright.convert(mode))
    return array[..., None] if array.ndim == 2 else array


def _deep_values(image: Image, form: str | None) -> NDArray[Any]:
    array = np.asarray(image)
    # Pillow scales what a PGM file with more than eight bits holds to 16 bits, and keeps it in 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and form == "PPM"):
        return array.astype(np.uint16)
    return array


def _with_channels(grey: Bytes, conversion: Conversion) -> Bytes:
    colour = np.repeat(grey, 3, axis=-1)
    return colour if conversion.channels == 3 else np.concatenate([colour, np.full_like(grey, 255)], axis=-1)


def _without_hidden_colours(picture: Bytes, what: str, conversion: Conversion) -> Bytes:
    """``[H, W, 4]`` in the channels asked for; what shows through transparent pixels is the background or an error."""
    from PIL import Image

    alpha = picture[..., 3:]
    if conversion.channels == 4 or (conversion.channels is None and conversion.background is None):
        return np.where(alpha == 0, np.uint8(0), picture)
    colour = picture[..., :3]
    if (alpha < 255).any():
        if conversion.background is None:
            raise FileFormatError(
                f"{what} has {int((alpha < 255).sum())} transparent pixels, whose colour is not told; state what is "
                "behind them, for example background=[255, 255, 255], or keep channels=4."
            )
        weight = alpha.astype(np.float64) / 255.0
        behind = np.array(conversion.background, dtype=np.float64)
        colour = np.rint(colour * weight + behind * (1.0 - weight)).astype(np.uint8)
    if conversion.channels == 1:
        return np.array(Image.fromarray(colour).convert("L"))[..., None]
    return colour
