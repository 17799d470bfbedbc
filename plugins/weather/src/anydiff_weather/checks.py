"""Reading files and refusing what does not fit, each in one sentence that names the variable and the fix."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray

from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError

LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon")
AXES = {"latitude": LATITUDES, "longitude": LONGITUDES, "number": ("number", "realization", "member", "ensemble")}
"""Our name of each axis, and the names it has in files."""

UNITS = {
    "m**2 s**-2": "m2 s-2", "m^2/s^2": "m2 s-2", "m2/s2": "m2 s-2", "m s**-1": "m s-1", "m/s": "m s-1",
    "kg m**-2": "kg m-2", "kg/m^2": "kg m-2", "kg kg**-1": "kg kg-1", "kg/kg": "kg kg-1", "kelvin": "K",
    "(0 - 1)": "1", "dimensionless": "1", "pascal": "Pa", "millimeter": "mm", "1": "1",
}  # fmt: skip
"""Spellings of units that mean the same; the value is the one of CF."""

_ENGINES = {".nc": "h5netcdf", ".nc4": "h5netcdf", ".h5": "h5netcdf", ".grib": "cfgrib", ".grb": "cfgrib"}
SUFFIXES = (*_ENGINES, ".grib2", ".grb2", ".zarr")


def canonical_unit(unit: str) -> str:
    """The CF spelling of ``unit`` where it is known, else the unit itself."""
    text = str(unit).strip()
    return UNITS.get(text, UNITS.get(text.lower(), text))


def open_dataset(path: str | Path) -> xarray.Dataset:
    """A NetCDF, Zarr or (where cfgrib is installed) GRIB file, loaded into memory.

    Raises:
        AnydiffError: no such file, or GRIB without cfgrib.
        FileFormatError: the file cannot be read.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise AnydiffError(f"{str(path)!r} does not exist; give a NetCDF, Zarr or GRIB file.")
    try:
        if path.suffix == ".zarr" or path.is_dir():
            with xarray.open_zarr(path, consolidated=False) as data:
                return data.load()
        engine = _ENGINES.get(path.suffix.lower().replace("grib2", "grib").replace("grb2", "grb"), "h5netcdf")
        if engine == "cfgrib" and importlib.util.find_spec("cfgrib") is None:
            raise AnydiffError(f"{str(path)!r} is GRIB, which needs cfgrib; pip install 'anydiff-weather[grib]'.")
        # Without an index, which cfgrib would leave beside the user's file.
        options = {"backend_kwargs": {"indexpath": ""}} if engine == "cfgrib" else {}
        with xarray.open_dataset(path, engine=engine, **options) as data:
            return data.load()
    except AnydiffError:
        raise
    except Exception as error:  # every engine has its own errors
        reason = " ".join(str(error).split())[:200]
        raise FileFormatError(
            f"{str(path)!r} cannot be read ({reason}); give a NetCDF, Zarr or GRIB file of weather fields."
        ) from error


def standard_axes(data: xarray.Dataset) -> xarray.Dataset:
    """``data`` with the axes and coordinates called latitude, longitude and number."""
    known = {*map(str, data.dims), *map(str, data.coords)}
    renames = {}
    for ours, theirs in AXES.items():
        found = next((name for name in theirs if name in known), None)
        if found not in (None, ours):
            renames[found] = ours
    return data.rename(renames)


def check_fields(
    data: xarray.Dataset,
    what: str,
    *,
    axes: Sequence[str] = (),
    variables: Sequence[str] | None = None,
    like: xarray.Dataset | None = None,
) -> xarray.Dataset:
    """``data`` with standard axes, ascending latitudes and only ``variables``, or the sentence that says what is wrong.

    Args:
        data: weather fields.
        what: what they are, for the sentences ("the forecast").
        axes: what they need beside the grid: "time", "number".
        variables: which ones, in this order; all by default.
        like: fields whose grid and units they must share.

    Raises:
        AnydiffError: a variable, axis, coordinate or unit is missing or unlike.
        NonFiniteError: a value is not finite.
    """
    data = standard_axes(data)
    names = [str(name) for name in (data.data_vars if variables is None else variables)]
    if not names:
        raise AnydiffError(f"{what} has no variables; give a data set with at least one field.")
    for name in names:
        if name not in data.data_vars:
            raise AnydiffError(f"{what} has no variable {name!r}, but {sorted(map(str, data.data_vars))}; rename it.")
    data = data[names]
    grid = [axis for axis in ("latitude", "longitude") if axis in data.dims]
    wanted = [*axes, *(["latitude", "longitude"] if "face" not in data.dims else [])]
    for name in names:
        for axis in wanted:
            if axis not in data[name].dims:
                raise AnydiffError(
                    f"variable {name!r} of {what} has the axes {[str(d) for d in data[name].dims]}, but needs "
                    f"{axis!r}; add it with expand_dims."
                )
    for axis in grid:
        if axis not in data.coords:
            raise AnydiffError(f"{what} has no coordinate {axis!r}, only an axis; assign its values in degrees.")
    data = _ascending(data, what)
    _check_units(data, what, like)
    if like is not None:
        _check_grid(data, what, like)
    for name in names:
        _check_finite(data[name], name, what)
    return data


def _ascending(data: xarray.Dataset, what: str) -> xarray.Dataset:
    if "latitude" in data.dims:
        steps = np.diff(data["latitude"].to_numpy())
        if (steps < 0).all() and len(steps):  # north first, as in ERA5's files: the same fields, turned
            return data.isel(latitude=slice(None, None, -1))
        if not (steps > 0).all():
            raise AnydiffError(f"the latitudes of {what} are not in order; sort them with sortby('latitude').")
    if "longitude" in data.dims and not (np.diff(data["longitude"].to_numpy()) > 0).all():
        raise AnydiffError(f"the longitudes of {what} are not ascending; sort them with sortby('longitude').")
    return data


def _check_units(data: xarray.Dataset, what: str, like: xarray.Dataset | None) -> None:
    for name in data.data_vars:
        unit = data[name].attrs.get("units")
        if unit is None:
            raise AnydiffError(f"variable {name!r} of {what} has no units; set data[{name!r}].attrs['units'].")
        if like is None or name not in like.data_vars:
            continue
        expected = like[name].attrs.get("units", "1")
        if canonical_unit(unit) != canonical_unit(expected):
            hint = "geopotential is height times 9.80665" if canonical_unit(expected) == "m2 s-2" else "convert it"
            raise AnydiffError(f"variable {name!r} of {what} is in {unit!r}, but must be in {expected!r}; {hint}.")


def _check_grid(data: xarray.Dataset, what: str, like: xarray.Dataset) -> None:
    for axis in ("latitude", "longitude"):
        if axis not in like.dims:
            continue
        given, wanted = data[axis].to_numpy(), like[axis].to_numpy()
        if given.shape != wanted.shape or not np.allclose(given, wanted, atol=1e-3):
            raise AnydiffError(
                f"the {axis} of {what} has {len(given)} values from {given[0]:g} to {given[-1]:g}, but "
                f"{len(wanted)} from {wanted[0]:g} to {wanted[-1]:g} are needed; regrid it."
            )


def _check_finite(field: xarray.DataArray, name: str, what: str) -> None:
    bad = ~np.isfinite(field.to_numpy())
    if not bad.any():
        return
    place = np.argwhere(bad)[0]
    where = ", ".join(f"{axis} {number}" for axis, number in zip(field.dims, place, strict=True))
    if "number" in field.dims:
        axis = field.dims.index("number")
        others = tuple(number for number in range(bad.ndim) if number not in (axis, field.dims.index("time"))) if (
            "time" in field.dims
        ) else ()  # fmt: skip
        if others and bad.all(axis=others).any():
            raise NonFiniteError(
                f"variable {name!r} of {what} has no values for some member ({where}): members are missing for some "
                "cases; drop those cases or members."
            )
    raise NonFiniteError(
        f"variable {name!r} of {what} has {int(bad.sum())} values that are not finite, the first at {where}; fill or "
        "drop them."
    )
