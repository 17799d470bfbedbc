"""What a radiologist looks at: orthogonal planes, a montage of slices, and the difference of two volumes.

Neurological display: the patient's left is on the left, whatever the order of a file's axes. Thick slices are drawn
thick. Grey levels run from the least to the greatest value of all
volumes drawn together, so that they can be compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from anydiff.domains.kit.pictures import enlarged, picture_grid, write_picture
from anydiff.errors import AnydiffError
from anydiff_volumes.placement import millimetres

Array = NDArray[np.float64]
HEIGHT = 112
"""Least height of a slice, in pixels."""


def draw_planes(images: Sequence[Any], path: Path, titles: Sequence[str] | None = None) -> None:
    """Sagittal, coronal and axial plane through the middle of each volume, a row each, titles beneath."""
    volumes = [_values(image) for image in images]
    low, high = _range(volumes)
    rows = [
        [_grey(plane, low, high) for plane in _planes(volume, _edges(image))]
        for volume, image in zip(volumes, images, strict=True)
    ]
    _write(rows, path, titles)


def draw_montage(image: Any, path: Path, columns: int = 7) -> None:
    """Every axial slice of one volume, from the feet up."""
    volume = _values(image)
    low, high = _range([volume])
    x, y, _ = _edges(image)
    slices = [_grey(_upright(volume[:, :, k], x, y), low, high) for k in range(volume.shape[2])]
    _write([slices[begin : begin + columns] for begin in range(0, len(slices), columns)], path, None)


def draw_difference(first: Any, second: Any, path: Path) -> None:
    """Planes of ``first``, of ``second``, and of second - first: red where it is greater, blue where it is less."""
    one, two = _values(first), _values(second)
    if one.shape != two.shape:
        raise AnydiffError(f"the volumes have shapes {one.shape} and {two.shape}; compare volumes of one grid.")
    places = [nibabel.affines.apply_affine(millimetres(image), _corners(image)) for image in (first, second)]
    largest = float(np.abs(places[0] - places[1]).max())
    if largest > 0.5 * nibabel.affines.voxel_sizes(millimetres(first)).min():
        raise AnydiffError(
            f"the volumes lie up to {largest:.3g} mm apart; bring them to one grid before comparing them."
        )
    low, high = _range([one, two])
    largest = float(np.abs(two - one).max()) or 1.0
    edges = _edges(first)
    rows = [[_grey(plane, low, high) for plane in _planes(volume, edges)] for volume in (one, two)]
    rows.append([_signed(plane, largest) for plane in _planes(two - one, edges)])
    _write(rows, path, ["first", "second", f"difference, up to {largest:.3g}"])


def _values(image: Any) -> Array:
    """Values with the axes turned to right, anterior, superior."""
    return np.asarray(nibabel.as_closest_canonical(image).dataobj, dtype=np.float64)


def _edges(image: Any) -> tuple[int, int, int]:
    """Edges of the voxels along right, anterior and superior, as whole multiples of the shortest."""
    sizes = nibabel.affines.voxel_sizes(nibabel.as_closest_canonical(image).affine)
    x, y, z = (max(1, round(float(size / sizes.min()))) for size in sizes)
    return x, y, z


def _corners(image: Any) -> Array:
    """The voxel coordinates of the corners ``[8, 3]``."""
    return np.array(list(itertools.product(*((0, size - 1) for size in image.shape))), dtype=np.float64)


def _range(volumes: Sequence[Array]) -> tuple[float, float]:
    low = min((float(volume.min()) for volume in volumes), default=0.0)
    high = max((float(volume.max()) for volume in volumes), default=1.0)
    return low, high if high > low else low + 1.0


def _upright(plane: Array, across: int = 1, up: int = 1) -> Array:
    """A plane [left to right, down to up] as rows from the top, each voxel ``across`` by ``up`` pixels."""
    return np.repeat(np.repeat(plane.T[::-1], up, axis=0), across, axis=1)


def _planes(volume: Array, edges: tuple[int, int, int]) -> list[Array]:
    x, y, z = (size // 2 for size in volume.shape)
    i, j, k = edges
    return [_upright(volume[x], j, k), _upright(volume[:, y], i, k), _upright(volume[:, :, z], i, j)]


def _grey(plane: Array, low: float, high: float) -> NDArray[np.uint8]:
    level = np.clip((plane - low) / (high - low), 0, 1) * 255
    return np.repeat(np.rint(level).astype(np.uint8)[..., None], 3, axis=-1)


def _signed(plane: Array, largest: float) -> NDArray[np.uint8]:
    share = np.clip(plane / largest, -1, 1)
    red, blue = 1 + np.minimum(share, 0), 1 - np.maximum(share, 0)
    colour = np.stack([red, 1 - np.abs(share), blue], axis=-1)
    return np.asarray(np.rint(255 * colour), dtype=np.uint8)


def _write(rows: Sequence[Sequence[NDArray[np.uint8]]], path: Path, titles: Sequence[str] | None) -> None:
    """Tiles in rows, all enlarged by one whole factor, with a line of text beneath each row."""
    if not rows:
        raise AnydiffError("there is no volume to draw; give at least one.")
    factor = max(1, -(-HEIGHT // max(tile.shape[0] for row in rows for tile in row)))
    lines = [
        picture_grid([enlarged(tile, factor) for tile in row], columns=len(row), margin=0, dark=True) for row in rows
    ]
    write_picture(picture_grid(lines, titles, columns=1, dark=True), path)
