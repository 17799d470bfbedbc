"""Pictures with holes: what is transparent is to be found, what is opaque stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from anydiff.data.frames import Conversion
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.states import Known
from anydiff_images.files import fitting, read_images

if TYPE_CHECKING:
    from anydiff_images.domain import Images


def read_known(domain: Images, path: Path) -> Known:
    """The opaque pixels of the pictures in a file or folder as known entries ``[B, C, H, W]``.

    Raises:
        AnydiffError: pictures whose fourth channel is a part of the domain's states, or of another size.
        FileFormatError: a picture without a transparent pixel, with half transparent ones, or with colours where the
            domain is grey.
    """
    if domain.channels == 4:
        raise AnydiffError(
            "--known finds holes by their transparency, but here transparency is a channel of the pictures; in Python "
            "give known= and known_mask= to sample()."
        )
    values, masks = [], []
    for place, image in enumerate(read_images(path, 4, Conversion())):
        what = f"picture {image.info.get('name', place)} of {str(path)!r}"
        array = np.asarray(image).copy()
        alpha = array[..., 3]
        if ((alpha > 0) & (alpha < 255)).any():
            raise FileFormatError(
                f"{what} has {int(((alpha > 0) & (alpha < 255)).sum())} half transparent pixels, of which it is not "
                "said whether they are known; make each opaque or transparent."
            )
        if (alpha == 255).all():
            raise FileFormatError(
                f"{what} has no transparent pixel, so nothing is to be found; make the hole transparent (PNG with an "
                "alpha channel)."
            )
        known = alpha == 255
        array[~known] = 0
        pixels = fitting(array[..., :3], domain.channels, what)
        if domain.channels == 1 and pixels.shape[-1] == 3:
            if (pixels != pixels[..., :1]).any():
                raise FileFormatError(f"{what} has colours, but the pictures here are grey; use image.convert('LA').")
            pixels = pixels[..., :1]
        values.append(pixels if domain.channels > 1 else pixels[..., 0])
        masks.append(torch.from_numpy(known))
    states = domain.encode(values)
    return Known(states, torch.stack(masks)[:, None].expand(states.shape).clone())
