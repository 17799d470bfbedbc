"""Grids on the sphere: latitude-longitude, the equi-angular cubed sphere, regridding both ways, cell areas.

The cubed sphere is that of SEEDS (arXiv:2306.14066): on each of six faces the edge angles -π/4 + (i + 1/2) π/(2n) are
projected by the tangent (gnomonic projection). It is not an equal-area grid: at n = 48 cell areas differ by a factor
1.39, so means over it must be weighted.
"""

from __future__ import annotations

import functools

import numpy as np
import xarray
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from anydiff.errors import AnydiffError, natural_number
from anydiff_weather.checks import check_fields

Array = NDArray[np.float64]
FACE_AXES = ("face", "y", "x")


@functools.cache
def cubed_sphere_points(size: int) -> Array:
    """Unit vectors ``[6, n, n, 3]`` of the cell centres; faces +x, +y, -x, -y, +z, -z."""
    natural_number("size", size)
    edge = np.tan(-np.pi / 4 + (np.arange(size) + 0.5) * np.pi / (2 * size))
    y, x = np.meshgrid(edge, edge, indexing="ij")
    one = np.ones_like(x)
    faces = [(one, x, y), (-x, one, y), (-one, -x, y), (x, -one, y), (-y, x, one), (y, x, -one)]
    points = np.stack([np.stack(face, axis=-1) for face in faces])
    unit: Array = points / np.linalg.norm(points, axis=-1, keepdims=True)
    return unit


@functools.cache
def cubed_sphere_areas(size: int) -> Array:
    """Exact solid angles ``[6, n, n]`` of the cells; they sum to 4π.

    The part of the face between 0 and (a, b) on the plane at distance 1 has the solid angle
    atan(a b / sqrt(1 + a² + b²)); a cell is a difference of four of them.
    """
    edge = np.tan(-np.pi / 4 + np.arange(size + 1) * np.pi / (2 * size))
    corner = np.arctan(np.outer(edge, edge) / np.sqrt(1 + edge[:, None] ** 2 + edge**2))
    cell = np.diff(np.diff(corner, axis=0), axis=1)
    return np.broadcast_to(cell, (6, size, size)).copy()


def lonlat(points: Array) -> tuple[Array, Array]:
    """Longitudes in [0, 360) and latitudes, degrees, of unit vectors ``[..., 3]``."""
    longitude = np.degrees(np.arctan2(points[..., 1], points[..., 0])) % 360.0
    latitude = np.degrees(np.arcsin(np.clip(points[..., 2], -1.0, 1.0)))
    return longitude, latitude


def unit_vectors(longitude: Array, latitude: Array) -> Array:
    """Unit vectors ``[..., 3]`` of longitudes and latitudes in degrees: the inverse of :func:`lonlat`."""
    around, up = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], axis=-1)


def cell_weights(data: xarray.Dataset) -> Array:
    """Relative areas ``[*grid]``, mean 1: cos(latitude) on a latitude-longitude grid, exact areas on a cubed sphere."""
    if "face" in data.dims:
        weights = cubed_sphere_areas(data.sizes["x"])
    else:
        row = np.cos(np.radians(data["latitude"].to_numpy().astype(np.float64)))
        weights = np.repeat(row[:, None], data.sizes["longitude"], axis=1)
    relative: Array = weights / weights.mean()
    return relative


def to_cubed_sphere(data: xarray.Dataset, size: int) -> xarray.Dataset:
    """Fields on a latitude-longitude grid at the points of a cubed sphere: bilinear, longitudes wrapped.

    Beyond the last latitude the nearest row is used. Other axes are kept before ``(face, y, x)``.

    Args:
        data: variables with the axes latitude and longitude; the longitudes go around the globe.
        size: n, cells along an edge of a face.
    """
    data = check_fields(data, "the data set")
    longitude, latitude = lonlat(cubed_sphere_points(size))
    rows, row_part = _between(data["latitude"].to_numpy().astype(np.float64), latitude)
    columns, column_part = _around(data["longitude"].to_numpy().astype(np.float64), longitude)
    arrays = {}
    for name, field in data.data_vars.items():
        others = [str(axis) for axis in field.dims if axis not in ("latitude", "longitude")]
        values = field.transpose(*others, "latitude", "longitude").to_numpy()
        west, east = (
            values[..., rows[0], column] * (1 - row_part) + values[..., rows[1], column] * row_part
            for column in columns
        )
        mixed = (west * (1 - column_part) + east * column_part).astype(values.dtype)
        arrays[name] = ((*others, *FACE_AXES), mixed, field.attrs)
    kept = {name: value for name, value in data.coords.items() if not {"latitude", "longitude"} & set(value.dims)}
    return xarray.Dataset(arrays, {**kept, **_cube_coordinates(longitude, latitude)}, data.attrs)


def to_latitude_longitude(data: xarray.Dataset, latitude: Array, longitude: Array) -> xarray.Dataset:
    """Fields on a cubed sphere at latitudes and longitudes: inverse distance weights of the 4 nearest points.

    Distances are chords in three dimensions. Other axes are kept before ``(latitude, longitude)``.

    Raises:
        AnydiffError: the data have no axes ``(face, y, x)``.
    """
    for axis in FACE_AXES:
        if axis not in data.dims:
            raise AnydiffError(
                f"the data set has the axes {sorted(map(str, data.dims))}, but a cubed sphere has {axis!r}."
            )
    latitude, longitude = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    size = data.sizes["x"]
    targets = unit_vectors(*np.meshgrid(longitude, latitude)).reshape(-1, 3)
    distance, nearest = cKDTree(cubed_sphere_points(size).reshape(-1, 3)).query(targets, k=4)
    # A target on a point takes its value: its weight outgrows the others by the square of the last digit.
    weight = 1 / np.maximum(distance, 1e-12)
    weight /= weight.sum(axis=1, keepdims=True)
    arrays = {}
    for name, field in data.data_vars.items():
        others = [str(axis) for axis in field.dims if axis not in FACE_AXES]
        values = field.transpose(*others, *FACE_AXES).to_numpy()
        flat = values.reshape(*values.shape[: len(others)], -1)
        mixed = (flat[..., nearest] * weight).sum(-1).reshape(*flat.shape[:-1], len(latitude), len(longitude))
        arrays[name] = ((*others, "latitude", "longitude"), mixed.astype(values.dtype), field.attrs)
    kept = {name: value for name, value in data.coords.items() if not set(FACE_AXES) & set(value.dims)}
    axes = {
        "latitude": ("latitude", latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", longitude, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return xarray.Dataset(arrays, {**kept, **axes}, data.attrs)


def _cube_coordinates(longitude: Array, latitude: Array) -> dict[str, tuple[tuple[str, ...], Array, dict[str, str]]]:
    return {
        "lat": (FACE_AXES, latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": (FACE_AXES, longitude, {"units": "degrees_east", "standard_name": "longitude"}),
    }


def _between(nodes: Array, targets: Array) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Array]:
    """Lower and upper neighbour in ascending ``nodes``, and the part of the way between them, cut to [0, 1]."""
    if len(nodes) == 1:
        zero = np.zeros(targets.shape, dtype=np.int64)
        return (zero, zero), np.zeros(targets.shape)
    lower = np.clip(np.searchsorted(nodes, targets, side="right") - 1, 0, len(nodes) - 2)
    part = np.clip((targets - nodes[lower]) / (nodes[lower + 1] - nodes[lower]), 0.0, 1.0)
    return (lower, lower + 1), part


def _around(nodes: Array, targets: Array) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Array]:
    """The same on the circle of 360 degrees."""
    widths = np.diff(np.append(nodes, nodes[0] + 360.0))
    if widths.max() > 1.5 * np.median(widths):
        raise AnydiffError(
            f"the longitudes run from {nodes[0]:g} to {nodes[-1]:g}, not around the globe, so they cannot be regridded "
            "to a cubed sphere."
        )
    offset = (targets - nodes[0]) % 360.0
    lower = np.clip(np.searchsorted(nodes - nodes[0], offset, side="right") - 1, 0, len(nodes) - 1)
    part = (offset - (nodes[lower] - nodes[0])) / widths[lower]
    return (lower, (lower + 1) % len(nodes)), part
