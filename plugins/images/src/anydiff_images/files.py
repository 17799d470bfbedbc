"""Image files: folders of PNG, single files and ``.npz``, and the grid a person looks at."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anydiff.data import read_array
from anydiff.data.frames import Conversion, frame_bytes, picture_files, read_pages, read_picture
from anydiff.data.reading import reading
from anydiff.domains.kit.pictures import enlarged, picture_grid, write_picture
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder, atomic_path, check_suffix

SUFFIXES = ("", ".npz", ".png")
"""What :func:`write_images` takes; ``""`` is a folder."""
NAME, CASE, LABEL = "name", "case", "label"
"""Keys of an image's ``info``: the name of the file it was read from, that of the case it is a sample of, its class."""
CELL = 84
"""Least size, in pixels, at which an image is drawn in a grid."""


def to_image(array: NDArray[np.uint8]) -> Image.Image:
    """Bytes ``[H, W, C]`` as a Pillow image of mode L, RGB or RGBA."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def read_images(path: Path, channels: int, conversion: Conversion) -> list[Image.Image]:
    """Images of a file (all its pages), a folder or an ``.npz``, with ``channels`` where that loses nothing."""
    names: list[str] = []
    if path.suffix.lower() == ".npz":
        arrays = [(f"image {number} of {str(path)!r}", each) for number, each in enumerate(_read_npz(path, conversion))]
        names = _read_names(path, len(arrays))
    elif path.is_dir():
        files = picture_files(path)
        arrays = [(repr(str(file)), read_picture(file, conversion)) for file in files]
        names = [file.stem for file in files]
    else:
        arrays = [(f"page {page + 1} of {str(path)!r}", each) for page, each in enumerate(read_pages(path, conversion))]
    images = [to_image(fitting(array, channels, what)) for what, array in arrays]
    for image, name in zip(images, names, strict=False):
        image.info[NAME] = name
    return images


def fitting(array: NDArray[np.uint8], channels: int, what: str) -> NDArray[np.uint8]:
    """``array [H, W, C]`` with another number of channels where no value is lost: grey in colour, opaque without alpha.

    Raises:
        FileFormatError: transparent pixels where no alpha channel is asked for.
    """
    if array.shape[-1] == 4 and channels < 4:
        if (array[..., 3] < 255).any():
            raise FileFormatError(
                f"{what} has {int((array[..., 3] < 255).sum())} transparent pixels, but the images here have "
                f"{channels} channels without alpha; state what is behind them, background=(255, 255, 255) say."
            )
        array = array[..., :3]
        if channels == 1 and (array == array[..., :1]).all():
            array = array[..., :1]
    if array.shape[-1] == 1 and channels > 1:
        colour = np.repeat(array, 3, axis=-1)
        return colour if channels == 3 else np.concatenate([colour, np.full_like(array, 255)], axis=-1)
    return array


def _read_npz(path: Path, conversion: Conversion) -> NDArray[np.uint8]:
    """The array ``images`` as bytes ``[N, H, W, C]``."""
    array = read_array(path, "images")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3, 4)):
        raise FileFormatError(f"'images' of {str(path)!r} is {array.dtype} {array.shape}, but must be [N, H, W(, C)].")
    array = array if array.ndim == 4 else array[..., None]
    return frame_bytes(array, f"'images' of {str(path)!r}", conversion.value_range)


def write_images(images: Sequence[Image.Image], path: Path) -> None:
    """Write to an ``.npz``, one ``.png`` or a folder of numbered PNG files, whole or not at all."""
    kind = check_suffix(path, SUFFIXES, "images")
    if kind == ".npz":
        arrays = np.stack([np.asarray(image) for image in images])
        content: dict[str, Any] = {"images": arrays if arrays.ndim == 4 else arrays[..., None]}
        if _cases(images):
            content["names"] = np.array(_cases(images))
        labels = [str(image.info.get(LABEL, "")) for image in images]
        if any(labels):
            content["labels"] = np.array(labels)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **content)
    elif kind == ".png":
        if len(images) != 1:
            raise AnydiffError(
                f"{str(path)!r} is one PNG file, but {len(images)} images were given; name a folder or an .npz file."
            )
        with atomic_path(path) as temporary:
            images[0].save(temporary, format="png", pnginfo=_told(images[0]))
    else:
        _write_folder(images, path)


def _write_folder(images: Sequence[Image.Image], path: Path) -> None:
    digits = max(4, len(str(len(images) - 1)))
    names = _cases(images) or [f"{index:0{digits}d}{_spoken(image)}" for index, image in enumerate(images)]
    with atomic_folder(path) as folder:
        for name, image in zip(names, images, strict=True):
            image.save(folder / f"{name}.png", pnginfo=_told(image))


def _spoken(image: Image.Image) -> str:
    """What the name of a file says of the image's label: ``-ankle-boot``; nothing where it has none."""
    words = re.sub(r"[^a-z0-9]+", "-", str(image.info.get(LABEL, "")).lower()).strip("-")
    return f"-{words}" if words else ""


def _told(image: Image.Image) -> PngInfo | None:
    """The label as a text of the PNG file; None where the image has none."""
    if LABEL not in image.info:
        return None
    told = PngInfo()
    told.add_itxt(LABEL, str(image.info[LABEL]))
    return told


def labels_in(path: Path, count: int) -> list[str | None]:
    """The label of each of the ``count`` images that :func:`read_images` reads from ``path``; None where none is told.

    A PNG tells it in its text ``label``, an ``.npz`` in its array ``labels``.
    """
    if path.suffix.lower() == ".npz":
        return [name or None for name in _read_texts(path, "labels", count)] or [None] * count
    found: list[str | None] = []
    for file in picture_files(path) if path.is_dir() else [path]:
        with reading(file, "a picture", "remove or repair it"), Image.open(file) as opened:
            label = opened.info.get(LABEL)
        found.append(label if isinstance(label, str) else None)
    return found if len(found) == count else [None] * count


def _cases(images: Sequence[Image.Image]) -> list[str]:
    """The name of each image's case; empty unless all have one of their own."""
    names = [str(image.info[CASE]) for image in images if CASE in image.info]
    return names if len(set(names)) == len(images) else []


def _read_names(path: Path, count: int) -> list[str]:
    """The names in an ``.npz``, none where it has not the array."""
    names = _read_texts(path, "names", count)
    # A name becomes that of a file: one that leads elsewhere is none.
    return names if all(_is_plain(name) for name in names) else []


def _read_texts(path: Path, key: str, count: int) -> list[str]:
    """The ``count`` texts in an array of an ``.npz``, none where it has not the array."""
    with reading(path, "a NumPy archive", "write one with numpy.savez"), np.load(path, allow_pickle=False) as content:
        texts = content[key] if key in content.files else np.array([])
    return [str(text) for text in texts] if texts.shape == (count,) and texts.dtype.kind == "U" else []


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0")


def draw_grid(images: Sequence[Image.Image], path: Path, titles: Sequence[str] | None = None) -> None:
    """A grid of the images, each enlarged by a whole factor (nearest neighbour), with its title beneath.

    Raises:
        AnydiffError: no images, or another number of titles than images.
    """
    if not images:
        raise AnydiffError("there is no image to draw; give at least one.")
    if titles and len(titles) != len(images):
        raise AnydiffError(f"{len(titles)} titles were given for {len(images)} images; give one per image or none.")
    factor = max(1, math.ceil(CELL / max(*(image.width for image in images), *(image.height for image in images))))
    write_picture(picture_grid([enlarged(image, factor) for image in images], titles, gap=6), path)
