"""Standard names and order of axes, and refusing what does not fit, in one sentence that names variable and fix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray

from anydiff.errors import AnydiffError, NonFiniteError
from anydiff_weather.times import standard_times

LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon")
MEMBERS = ("number", "realization", "member", "ensemble", "ensemble_member", "realisation")
AXES = {"latitude": LATITUDES, "longitude": LONGITUDES, "number": MEMBERS}
"""Our name of each axis, and the names it has in files."""

OURS = (*AXES, "time", "step", "valid_time", "sample", "case", "dayofyear", "face", "y", "x")
"""Axes whose meaning is known."""

UNITS = {
    "m**2 s**-2": "m2 s-2", "m^2/s^2": "m2 s-2", "m2/s2": "m2 s-2", "m s**-1": "m s-1", "m/s": "m s-1",
    "kg m**-2": "kg m-2", "kg/m^2": "kg m-2", "kg kg**-1": "kg kg-1", "kg/kg": "kg kg-1", "kelvin": "K",
    "(0 - 1)": "1", "dimensionless": "1", "pascal": "Pa", "millimeter": "mm", "1": "1", "celsius": "degC",
    "degrees_celsius": "degC", "deg_c": "degC", "°c": "degC", "c": "degC", "metres": "m", "meters": "m",
    "meter": "m", "metre": "m", "mbar": "hPa", "millibar": "hPa", "millibars": "hPa", "hectopascal": "hPa",
}  # fmt: skip
"""Spellings of units that mean the same; the value is the one of CF."""

HINTS = {
    ("degC", "K"): "add 273.15", ("K", "degC"): "subtract 273.15", ("hPa", "Pa"): "multiply by 100",
    ("Pa", "hPa"): "divide by 100", ("m", "mm"): "multiply by 1000", ("mm", "m"): "divide by 1000",
    ("m", "m2 s-2"): "geopotential is height times 9.80665", ("gpm", "m2 s-2"): "geopotential is height times 9.80665",
    ("m2 s-2", "m"): "height is geopotential over 9.80665", ("m2 s-2", "gpm"): "height is geopotential over 9.80665",
}  # fmt: skip
"""How to get from one unit to another."""

LEVELS = {
    "isobaricInhPa": ("hPa", 1.0), "pressure_level": ("hPa", 1.0), "level": ("hPa", 1.0), "plev": ("hPa", 0.01),
    "isobaricInPa": ("hPa", 0.01), "heightAboveGround": ("m above ground", 1.0), "height": ("m above ground", 1.0),
}  # fmt: skip
"""Coordinates that say the level of fields: the kind of level, and what one is in its unit where none is given."""


BLOCK_VALUES = 1 << 22
"""Values of a field that are looked at together."""


def canonical_unit(unit: str) -> str:
    """The CF spelling of ``unit`` where it is known, else the unit itself."""
    text = str(unit).strip()
    return UNITS.get(text, UNITS.get(text.lower(), text))


def standard_axes(data: xarray.Dataset, what: str = "the data") -> xarray.Dataset:
    """``data`` with the axes and coordinates called latitude, longitude, number, time, step and valid_time.

    Raises:
        AnydiffError: two of them mean the same, or a lead time has no units.
    """
    dims, known = set(map(str, data.dims)), {*map(str, data.dims), *map(str, data.coords)}
    renames = {}
    for ours, theirs in AXES.items():
        found = [name for name in theirs if name in dims] or [name for name in theirs if name in known]
        if len(found) > 1:
            raise AnydiffError(f"{what} has both {found[0]!r} and {found[1]!r}, which mean the same; drop one of them.")
        if found and found[0] != ours:
            if ours in known:  # cfgrib's scalar number beside an axis of members, say
                data = data.drop_vars(ours)
            renames[found[0]] = ours
    return standard_times(data.rename(renames), what)


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
    data = standard_axes(data, what)
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
            _check_axis(data, name, axis, what)
    for axis in grid:
        if axis not in data.coords:
            raise AnydiffError(f"{what} has no coordinate {axis!r}, only an axis; assign its values in degrees.")
        if str(data[axis].attrs.get("units", "")).startswith("rad"):
            raise AnydiffError(f"the {axis}s of {what} are in radians; give them in degrees.")
    data = _ascending(data, what, like)
    _check_units(data, what, like)
    if like is not None:
        data = _on_grid(data, what, like)
        check_levels(data, what, like)
    for name in names:
        if data[name].dtype.kind not in "iuf":
            raise AnydiffError(f"variable {name!r} of {what} holds {data[name].dtype}, not real numbers; correct it.")
        _check_finite(data[name], name, what)
    return data


def _check_axis(data: xarray.Dataset, name: str, axis: str, what: str) -> None:
    """Refuse a variable without ``axis``, with the advice that makes right data of it."""
    dims = [str(each) for each in data[name].dims]
    if axis in dims:
        return
    strange = [each for each in dims if each not in OURS and each not in LEVELS]
    if axis in data.coords and data[axis].ndim > 1:
        advice = "they are two-dimensional (a rotated or curved grid), so regrid the fields to latitudes and longitudes"
    elif strange:
        advice = f"if {strange[0]!r} is that axis, rename it: data.rename({strange[0]}={axis!r})"
    elif axis in data.coords and data[axis].ndim == 0:
        advice = f"it is one value, which becomes an axis by data.expand_dims({axis!r})"
    elif axis == "number":
        advice = "it holds one member; give the file of the ensemble, or name the one by data.expand_dims(number=[0])"
    else:
        advice = f"these are fields without it; give data with one value of {axis!r} per field"
    raise AnydiffError(f"variable {name!r} of {what} has the axes {dims}, but needs {axis!r}; {advice}.")


def check_levels(data: xarray.Dataset, what: str, like: xarray.Dataset) -> None:
    """Refuse fields of another level (500 hPa for 850 hPa, 10 m for 2 m), where both data say theirs.

    Raises:
        AnydiffError: names both levels.
    """
    found, wanted = levels(data), levels(like)
    for kind, value in found.items():
        if kind in wanted and not np.isclose(value, wanted[kind], rtol=1e-4):
            raise AnydiffError(
                f"{what} is at {value:g} {kind}, but must be at {wanted[kind]:g} {kind}, the level of the climatology; "
                "select that level."
            )


def levels(data: xarray.Dataset) -> dict[str, float]:
    """The one pressure (hPa) or height (m) of the fields, by kind, where a coordinate of one value says so."""
    found = {}
    for name, (kind, unit_value) in LEVELS.items():
        if name in data.coords and data[name].size == 1 and data[name].dtype.kind in "iuf":
            unit = str(data[name].attrs.get("units", ""))
            scale = {"Pa": 0.01, "hPa": 1.0, "millibars": 1.0, "mbar": 1.0}.get(unit, unit_value)
            found[kind] = float(data[name].to_numpy().reshape(())) * scale
    return found


def _ascending(data: xarray.Dataset, what: str, like: xarray.Dataset | None) -> xarray.Dataset:
    if "latitude" in data.dims:
        steps = np.diff(data["latitude"].to_numpy())
        if (steps < 0).all() and len(steps):  # north first, as in ERA5's files: the same fields, turned
            data = data.isel(latitude=slice(None, None, -1))
        elif not (steps > 0).all():
            raise AnydiffError(f"the latitudes of {what} are not in order; sort them with sortby('latitude').")
    if "longitude" in data.dims:
        longitude = data["longitude"].to_numpy()
        # Once around the globe from anywhere: 0 to 350 and -180 to 170 are one grid.
        turns = longitude if like is None else np.unwrap(longitude, period=360.0)
        if not (np.diff(turns) > 0).all():
            raise AnydiffError(f"the longitudes of {what} are not ascending; sort them with sortby('longitude').")
        if len(turns) and turns[-1] - turns[0] > 360.0 - 1e-3:
            raise AnydiffError(
                f"the longitudes of {what} go from {longitude[0]:g} to {longitude[-1]:g}, around the globe and onto "
                "themselves; drop the last one with isel(longitude=slice(None, -1))."
            )
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
            hint = HINTS.get((canonical_unit(unit), canonical_unit(expected)), "convert it")
            raise AnydiffError(f"variable {name!r} of {what} is in {unit!r}, but must be in {expected!r}; {hint}.")


def _on_grid(data: xarray.Dataset, what: str, like: xarray.Dataset) -> xarray.Dataset:
    """``data`` on the grid of ``like``: longitudes that differ by turns of 360 degrees are rolled to its order.

    Raises:
        AnydiffError: another grid.
    """
    for axis in ("latitude", "longitude"):
        if axis not in like.dims:
            continue
        given, wanted = data[axis].to_numpy(), like[axis].to_numpy()
        if axis == "longitude" and given.shape == wanted.shape and len(given):
            first = int(np.argmin(np.abs((given - wanted[0] + 180.0) % 360.0 - 180.0)))
            data = data.roll(longitude=-first, roll_coords=True)
            given = data[axis].to_numpy()
            given = given + 360.0 * np.rint((wanted - given) / 360.0)
        if given.shape != wanted.shape or not np.allclose(given, wanted, atol=1e-3):
            raise AnydiffError(
                f"the {axis} of {what} has {len(given)} values from {data[axis].to_numpy()[0]:g} to "
                f"{data[axis].to_numpy()[-1]:g}, but {len(wanted)} from {wanted[0]:g} to {wanted[-1]:g} are needed; "
                "regrid it."
            )
        data = data.assign_coords({axis: like[axis].variable})
    return data


def _check_finite(field: xarray.DataArray, name: str, what: str) -> None:
    """Refuse values that are not finite; a field that is not in memory is gone through along its first axis."""
    first = field.dims[0] if field.dims else None
    rows = max(1, BLOCK_VALUES // max(1, field[0].size)) if first else 1
    blocks = [field] if first is None else (field[at : at + rows] for at in range(0, len(field), rows))
    if all(bool(np.isfinite(block.to_numpy()).all()) for block in blocks):
        return
    bad = ~np.isfinite(field.to_numpy())
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
