"""Pictures as measurements: of any size, in brightness from 0 to 255, with a mask picture beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from anydiff.data.frames import Conversion
from anydiff.domains import Measurement
from anydiff.errors import AnydiffError
from anydiff_images.files import read_images

if TYPE_CHECKING:
    from anydiff_images.domain import Images


def read_measurement(domain: Images, path: Path, output: tuple[int, ...], mask: Path | None) -> Measurement:
    """See :meth:`anydiff_images.domain.Images.read_measurement`."""
    if len(output) != 3 or output[0] != domain.channels:
        raise AnydiffError(
            f"this operator gives {output}, which no picture of {domain.channels} channels holds; give the numbers in "
            "Python (pipeline.restore)."
        )
    values = _pictures(path, domain.channels, output)
    if mask is None:
        return Measurement(values)
    seen = _pictures(mask, 1, output).expand(-1, *output)
    between = (seen != 0) & (seen != 255)
    if bool(between.any()):
        raise AnydiffError(
            f"{str(mask)!r} holds {int(between.sum())} pixels that are neither black (0) nor white (255), "
            f"{int(seen[between][0])} "
            "is the first; a mask is white where a pixel was observed, so save it without smoothing."
        )
    if len(seen) not in (1, len(values)):
        raise AnydiffError(
            f"{str(mask)!r} holds {len(seen)} masks, but {str(path)!r} {len(values)} pictures; give one for each, or "
            "one."
        )
    return Measurement(torch.where(seen > 0, values, torch.nan))


def _pictures(path: Path, channels: int, output: tuple[int, ...]) -> Tensor:
    """Pictures as float64 ``[N, C, H, W]``.

    Raises:
        AnydiffError: one is of another size than ``output``.
    """
    found = []
    for number, image in enumerate(read_images(path, channels, Conversion())):
        array = np.asarray(image)
        array = array[..., None] if array.ndim == 2 else array
        if array.shape != (*output[1:], channels):
            raise AnydiffError(
                f"picture {number} of {str(path)!r} is {array.shape[1]}x{array.shape[0]} with {array.shape[2]} "
                "channels, "
                f"but this operator measures {output[2]}x{output[1]} with {channels}; resize it, or change the "
                "operator."
            )
        found.append(torch.from_numpy(array.astype(np.float64)).movedim(-1, 0))
    if not found:
        raise AnydiffError(f"{str(path)!r} holds no pictures; give a picture or a folder of them.")
    return torch.stack(found)
