"""The anatomy that the data sets are made of: MNI152 T1 with grey and white matter, on a grid of 3 mm.

The bundled file is made from the templates that nilearn carries (extra ``templates``), by averaging blocks of 3 x 3 x 3
voxels of 1 mm over a box around the brain::

    python -m anydiff_volumes.templates
"""

from __future__ import annotations

import functools
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from anydiff.errors import FileFormatError
from anydiff.files import atomic_path

BUNDLED = Path(__file__).with_name("bundled") / "mni152_3mm.nii.gz"
BLOCK = 3
"""Edge of a block, in voxels of 1 mm."""
FIRST_VOXEL = (14, 21, -6)
"""Where the box begins, in voxels of the 1 mm grid; what lies outside of it is air."""
SHAPE = (56, 64, 56)
"""Size of the bundled grid: 168 x 192 x 168 mm."""


@dataclass(frozen=True)
class Template:
    """Maps of one anatomy on one grid, each float32 in [0, 1].

    Attributes:
        t1: T1-weighted intensity, zero outside the brain.
        grey: share of grey matter per voxel.
        white: share of white matter per voxel.
        affine: float64 ``[4, 4]``, voxel to RAS+ millimetres.
    """

    t1: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    affine: NDArray[np.float64]


@functools.cache
def mni152() -> Template:
    """The bundled MNI152 2009a template at 3 mm."""
    try:
        image: Any = nibabel.load(BUNDLED)
        maps = np.asarray(np.asarray(image.dataobj, dtype=np.float32) / 255, dtype=np.float32)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise FileFormatError(
            f"the bundled {BUNDLED.name!r} cannot be read ({error}); install anydiff-volumes again."
        ) from error
    if maps.shape != (*SHAPE, 3):
        raise FileFormatError(f"the bundled {BUNDLED.name!r} has shape {maps.shape}; install anydiff-volumes again.")
    return Template(maps[..., 0], maps[..., 1], maps[..., 2], np.asarray(image.affine, dtype=np.float64))


def block_means(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over blocks of 3 x 3 x 3 voxels of the box, ``SHAPE``; zero where the box leaves the array."""
    padded = np.zeros([size * BLOCK for size in SHAPE])
    source, target = [], []
    for first, size, limit in zip(FIRST_VOXEL, padded.shape, array.shape, strict=True):
        source.append(slice(max(first, 0), min(first + size, limit)))
        target.append(slice(max(first, 0) - first, min(first + size, limit) - first))
    padded[tuple(target)] = array[tuple(source)]
    split = [extent for size in SHAPE for extent in (size, BLOCK)]
    return np.asarray(padded.reshape(split).mean(axis=(1, 3, 5)))


def write_bundle(path: Path = BUNDLED) -> None:
    """Make the bundled file from nilearn's templates at 1 mm."""
    from nilearn import datasets

    loaders = (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    images = [load(resolution=1) for load in loaders]
    maps = np.stack([block_means(image.get_fdata()) for image in images], axis=-1)
    affine = images[0].affine.copy()
    # The centre of the first block lies (BLOCK - 1) / 2 voxels behind its first voxel.
    affine[:3, 3] += affine[:3, :3] @ (np.array(FIRST_VOXEL) + (BLOCK - 1) / 2)
    affine[:3, :3] *= BLOCK
    image = nibabel.Nifti1Image(np.rint(maps * 255).astype(np.uint8), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"MNI152 2009a T1, GM, WM: 3 mm block means"
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))


if __name__ == "__main__":
    write_bundle()
    print(f"{BUNDLED}: {BUNDLED.stat().st_size} bytes")
