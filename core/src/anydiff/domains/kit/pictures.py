"""Pictures side by side: tiles of pixels (Pillow) and panels of plots (matplotlib), written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anydiff.errors import AnydiffError
from anydiff.files import atomic_path, check_suffix
from anydiff.optional import require

__all__ = ["enlarged", "panels", "picture_grid", "write_animation", "write_figure", "write_picture"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

Tile = Any
"""A Pillow image, or uint8 ``[H, W]`` (grey), ``[H, W, 3]`` (RGB) or ``[H, W, 4]`` (RGBA)."""
TITLE = 16
"""Height of a title beneath its tile, pixels; letters are 11 pixels high."""


def as_picture(tile: Tile) -> Image:
    """A tile as a Pillow image."""
    require("PIL", "drawing pictures", "pillow")
    from PIL import Image

    return tile if isinstance(tile, Image.Image) else Image.fromarray(np.asarray(tile))


def enlarged(tile: Tile, factor: int) -> Image:
    """A tile with each pixel as a square of ``factor`` pixels."""
    picture = as_picture(tile)
    from PIL import Image

    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def columns_for(count: int) -> int:
    """Columns of a grid of ``count`` tiles: ten where they come out even (ten classes), else nearly square."""
    if count > 10 and count % 10 == 0:
        return 10
    return min(count, max(1, math.ceil(math.sqrt(count))))


def picture_grid(
    tiles: Sequence[Tile],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    *,
    gap: int = 4,
    margin: int | None = None,
    dark: bool = False,
) -> Image:
    """Tiles side by side in cells of one size, row by row, each with its title beneath.

    Where tiles are of different sizes, each stands at the upper left of its cell. Transparent pixels show the ground,
    not the colours that are hidden under them. A title that is wider than its cell is cut, with an ellipsis.

    Args:
        tiles: at least one.
        titles: of the first tiles; none, or ``""``, where a tile has none.
        columns: by default :func:`columns_for`.
        gap: pixels between two cells.
        margin: pixels around them; as ``gap`` by default.
        dark: light titles on black instead of black ones on white.

    Returns:
        An RGB image.

    Raises:
        AnydiffError: there is no tile.
    """
    if not len(tiles):
        raise AnydiffError("there is no picture to draw; give at least one.")
    pictures = [as_picture(tile) for tile in tiles]
    from PIL import Image, ImageDraw, ImageFont

    columns = columns or columns_for(len(pictures))
    rows = -(-len(pictures) // columns)
    margin = gap if margin is None else margin
    width, height = max(each.width for each in pictures), max(each.height for each in pictures)
    across, down = width + gap, height + gap + (TITLE if titles else 0)
    size = (columns * across - gap + 2 * margin, rows * down - gap + 2 * margin)
    sheet = Image.new("RGB", size, "black" if dark else "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, picture in enumerate(pictures):
        left, top = margin + number % columns * across, margin + number // columns * down
        opaque = picture.convert("RGBA")
        sheet.paste(opaque, (left, top), opaque)
        if titles and number < len(titles):
            text = _fitting(titles[number], lambda text: pen.textlength(text, font=font), width)
            pen.text((left, top + height + 1), text, fill="white" if dark else "black", font=font)
    return sheet


def _fitting(text: str, length: Any, width: int) -> str:
    while len(text) > 1 and length(text) > width:
        text = text[:-2] + "…"
    return text


def write_picture(picture: Tile, path: str | Path) -> None:
    """Write a tile as PNG."""
    with atomic_path(path) as temporary:
        as_picture(picture).save(temporary, format="png")


def write_animation(frames: Sequence[Tile], path: str | Path, frames_per_second: float = 20.0) -> None:
    """Write tiles of one size as an animated GIF that repeats.

    Args:
        frames: in the order in which they are shown.
        path: ends in ``.gif``.
        frames_per_second: positive; players round the time of a frame to hundredths of a second.

    Raises:
        AnydiffError: no frames, frames of different sizes, another ending, or a rate that is not positive.
    """
    check_suffix(path, (".gif",), "animations")
    if not frames:
        raise AnydiffError("there are no frames to animate; give at least one.")
    if not frames_per_second > 0:
        raise AnydiffError(f"frames_per_second is {frames_per_second}, but must be positive.")
    pictures = [as_picture(frame) for frame in frames]
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        raise AnydiffError(f"the frames have different sizes, {sizes[0]} and {sizes[-1]}; give frames of one size.")
    with atomic_path(path) as temporary:
        pictures[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=1000 / frames_per_second,
            loop=0,
        )


def panels(count: int, width: float, height: float, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` plots, at most ``columns`` in a row, and their axes; cells that are left over are empty.

    Args:
        count: at least one.
        width: of one plot, inches.
        height: of one plot, inches.
        columns: the most in a row.

    Raises:
        AnydiffError: matplotlib is not installed.
    """
    require("matplotlib", "drawing pictures", "anydiff[pictures]")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no screen is asked for
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for empty in axes[count:]:
        empty.set_axis_off()
    return figure, axes[:count]


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, 110 pixels to the inch."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
