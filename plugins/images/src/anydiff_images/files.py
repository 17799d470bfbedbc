"""Image files: folders of PNG, single files and ``.npz``, and the grid a person looks at."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
CELL = 84
"""Least size, in pixels, at which an image is drawn in a grid."""


def image_files(folder: Path) -> list[Path]:
    """The image files directly in ``folder``, sorted by name; hidden files are skipped."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def open_image(path: Path) -> Image.Image:
    """The decoded image at ``path``; raises :class:`~anydiff.errors.FileFormatError` naming the file otherwise."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if image.mode != "P" else image.convert("RGB")
    except FileNotFoundError as error:
        raise AnydiffError(f"the image {str(path)!r} does not exist; check the path.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{str(path)!r} is no readable image ({error}); remove or repair it.") from error


def read_images(path: Path, mode: str) -> list[Image.Image]:
    """Images of a file, a folder or an ``.npz``; grey ones become ``mode`` where that loses nothing."""
    if path.suffix == ".npz":
        images = [Image.fromarray(array) for array in _read_npz(path)]
    elif path.is_dir():
        files = image_files(path)
        if not files:
            raise AnydiffError(
                f"the folder {str(path)!r} holds no image files ({', '.join(SUFFIXES)}); check the path."
            )
        images = [open_image(file) for file in files]
    else:
        images = [open_image(path)]
    return [image.convert(mode) if image.mode in ("1", "L") and mode != image.mode else image for image in images]


def _read_npz(path: Path) -> NDArray[np.uint8]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[np.uint8] = archive["images"]
    except FileNotFoundError as error:
        raise AnydiffError(f"the file {str(path)!r} does not exist; check the path.") from error
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{str(path)!r} is no .npz with an array 'images' ({error}); check the file.") from error
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise FileFormatError(
            f"'images' of {str(path)!r} is {array.dtype} {array.shape}, but must be uint8 [N, H, W(, C)]."
        )
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def write_images(images: Sequence[Image.Image], path: Path) -> None:
    """Write to an ``.npz``, one ``.png`` or a folder of numbered PNG files, whole or not at all."""
    if path.suffix == ".npz":
        arrays = np.stack([np.asarray(image) for image in images])
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=arrays if arrays.ndim == 4 else arrays[..., None])
    elif path.suffix == ".png":
        if len(images) != 1:
            raise AnydiffError(
                f"{str(path)!r} is one PNG file, but {len(images)} images were given; name a folder or an .npz file."
            )
        with atomic_path(path) as temporary:
            images[0].save(temporary, format="png")
    elif path.suffix:
        raise AnydiffError(
            f"{str(path)!r} ends in {path.suffix!r}, but images are written to a folder, a .png or an .npz."
        )
    else:
        _write_folder(images, path)


def _write_folder(images: Sequence[Image.Image], path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise AnydiffError(
            f"{str(path)!r} exists and is not an empty folder; choose another name (nothing was overwritten)."
        )
    digits = max(4, len(str(len(images) - 1)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            for index, image in enumerate(images):
                image.save(temporary / f"{index:0{digits}d}.png")
            temporary.chmod(0o755)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise AnydiffError(
            f"cannot write {str(path)!r}: {error.strerror or error}; free some space or choose a folder you "
            "may write to."
        ) from error


def draw_grid(images: Sequence[Image.Image], path: Path, titles: Sequence[str] | None = None) -> None:
    """A grid of the images, each enlarged by a whole factor (nearest neighbour), with its title beneath.

    Raises:
        AnydiffError: no images, or another number of titles than images.
    """
    if not images:
        raise AnydiffError("there is no image to draw; give at least one.")
    if titles and len(titles) != len(images):
        raise AnydiffError(f"{len(titles)} titles were given for {len(images)} images; give one per image or none.")
    width, height = max(image.width for image in images), max(image.height for image in images)
    factor = max(1, math.ceil(CELL / max(width, height)))
    gap, text = 6, 16 if titles else 0
    columns = _columns(len(images))
    rows = math.ceil(len(images) / columns)
    cell = (width * factor + gap, height * factor + gap + text)
    canvas = Image.new("RGB", (columns * cell[0] + gap, rows * cell[1] + gap), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for index, image in enumerate(images):
        left, top = gap + index % columns * cell[0], gap + index // columns * cell[1]
        enlarged = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        canvas.paste(enlarged, (left, top))
        if titles:
            title = _fit(pen, font, titles[index], width * factor)
            pen.text((left, top + height * factor + 1), title, fill="black", font=font)
    with atomic_path(path) as temporary:
        canvas.save(temporary, format="png")


def _columns(count: int) -> int:
    """Ten columns where they come out even (ten classes), else nearly square."""
    if count > 10 and count % 10 == 0:
        return 10
    return min(count, max(1, math.ceil(math.sqrt(count))))


def _fit(pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str, width: int) -> str:
    while len(text) > 1 and pen.textlength(text, font=font) > width:
        text = text[:-2] + "…"
    return text
