"""Volumes of which some voxels are missing, or on a coarser grid, as measurements; their place in the world is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.domains import Measurement
from anydiff.errors import AnydiffError
from anydiff_volumes.files import read_volumes
from anydiff_volumes.placement import AFFINE, check_geometry, millimetres, squeezed, values_of

if TYPE_CHECKING:
    from anydiff_volumes.domain import Volumes

TOLERANCE = 1e-3


def read_measurement(domain: Volumes, path: Path, output: tuple[int, ...], mask: Path | None) -> Measurement:
    """See :meth:`anydiff_volumes.domain.Volumes.read_measurement`."""
    shape = domain.shape
    fits = len(output) == 4 and output[0] == 1 and all(a % b == 0 for a, b in zip(shape, output[1:], strict=True))
    if not fits:
        raise AnydiffError(
            f"this operator gives {output}, which is no volume of {shape} voxels or of whole blocks of them; give the "
            "numbers as the array 'measurement' of an .npz file."
        )
    blocks = np.array([a // b for a, b in zip(shape, output[1:], strict=True)])
    images = read_volumes(path, missing=True)
    values = np.stack([_values(domain, image, blocks, output[1:], _name(path, n)) for n, image in enumerate(images)])
    if mask is not None:
        values = np.where(_seen(mask, images, values), values, np.nan)
    affines = np.stack([_fine(millimetres(image), blocks) for image in images])
    return Measurement(torch.from_numpy(values)[:, None], condition={AFFINE: torch.from_numpy(affines)})


def _name(path: Path, number: int) -> str:
    return f"volume {number} of {str(path)!r}"


def _values(domain: Volumes, image: Any, blocks: NDArray[Any], output: Sequence[int], name: str) -> NDArray[np.float64]:
    """The voxels of one volume on the measured grid, float64, NaN where nothing was measured.

    Raises:
        AnydiffError: another shape, voxel size or orientation than that of the grid.
    """
    check_geometry(image, name)
    image = squeezed(image)
    if tuple(image.shape) != tuple(output):
        raise AnydiffError(
            f"{name} has shape {tuple(image.shape)}, but this operator measures {tuple(output)}; resample it, or "
            "change the operator."
        )
    sizes, wanted = nibabel.affines.voxel_sizes(millimetres(image)), domain.voxel_size * blocks
    if np.abs(sizes - wanted).max() > TOLERANCE * wanted.max():
        raise AnydiffError(
            f"{name} has voxels of {_size(sizes)} mm, but this operator measures {_size(wanted)} mm; resample it, or "
            "change the operator."
        )
    codes = "".join(nibabel.aff2axcodes(image.affine))
    if codes != "RAS":
        raise AnydiffError(
            f"{name} is oriented {codes}, but states are RAS; turn it with nibabel.as_closest_canonical(image)."
        )
    return values_of(image, name, missing=True).astype(np.float64)


def _seen(mask: Path, images: Sequence[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which voxels a volume of 0 and 1 says were measured, one for all or one for each.

    Raises:
        AnydiffError: another number, grid, or other values.
    """
    masks = read_volumes(mask)
    if len(masks) not in (1, len(images)):
        raise AnydiffError(
            f"{str(mask)!r} holds {len(masks)} masks for {len(images)} volumes; give one for each, or one."
        )
    found = []
    for number, each in enumerate(masks):
        name = _name(mask, number)
        seen = values_of(squeezed(each), name)
        if seen.shape != values.shape[1:] or not np.allclose(each.affine, images[number].affine, atol=1e-3):
            raise AnydiffError(f"{name} lies on another grid than the volume it belongs to; save it on the same one.")
        if not np.isin(seen, (0, 1)).all():
            raise AnydiffError(f"{name} holds other values than 0 and 1; a mask is 1 where a voxel was measured.")
        found.append(seen == 1)
    return np.stack(found)


def _fine(affine: NDArray[np.float64], blocks: NDArray[Any]) -> NDArray[np.float64]:
    """The affine of the voxels whose blocks the measured ones are: a block lies where the mean of its voxels does."""
    fine = affine.copy()
    fine[:3, :3] = affine[:3, :3] / blocks
    fine[:3, 3] -= fine[:3, :3] @ ((blocks - 1) / 2)
    return fine


def _size(sizes: NDArray[Any]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
