"""Files of weather fields: NetCDF, Zarr and GRIB in, NetCDF and Zarr out. What a file is decides its first bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray

from anydiff.data import check_chunks, check_hdf5, check_zarr
from anydiff.data.reading import check_declared_size, reading
from anydiff.domains.kit import require
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder, atomic_path, check_suffix

SUFFIXES = (".nc", ".nc4", ".zarr")
"""Endings of what is written; any NetCDF, Zarr or GRIB is read, whatever its name."""

WHAT = "a NetCDF, Zarr or GRIB file of weather fields"
ADVICE = "write it with xarray.Dataset.to_netcdf"

VERTICAL = (
    "isobaricInhPa", "isobaricInPa", "heightAboveGround", "heightAboveSea", "surface", "meanSea", "level",
    "entireAtmosphere", "depthBelowLandLayer", "depthBelowLand", "atmosphere", "nominalTop", "potentialVorticity",
    "theta", "hybrid",
)  # fmt: skip
"""Coordinates in which cfgrib keeps the level of a field; fields of different levels disagree in them."""


def open_dataset(path: str | Path, *, in_memory: bool = True) -> xarray.Dataset:
    """A NetCDF, Zarr or (where cfgrib is installed) GRIB file. Lead times stay as they are stored.

    Args:
        path: the file or folder.
        in_memory: whether it is loaded; otherwise fields are read when they are asked for (GRIB is always loaded).

    Raises:
        AnydiffError: no such file, GRIB without cfgrib, or a GRIB file whose fields do not fit together.
        FileFormatError: the file cannot be read.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise AnydiffError(f"{str(path)!r} does not exist; give a NetCDF, Zarr or GRIB file.")
    with reading(path, WHAT, ADVICE):
        if path.is_dir():
            check_zarr(path, WHAT, ADVICE, in_memory=in_memory)
            data = xarray.open_zarr(path, consolidated=False, decode_timedelta=False, chunks=None)
            check_chunks(path, {str(name) for name in data.data_vars})
            return _loaded(data, path) if in_memory else data
        engine = _engine(path)
        if engine == "cfgrib":
            return _open_grib(path)
        if engine == "h5netcdf":
            check_hdf5(path, WHAT, ADVICE, in_memory=in_memory)
        data = xarray.open_dataset(path, engine=engine, decode_timedelta=False)
        return _loaded(data, path) if in_memory else data


def _loaded(data: xarray.Dataset, path: Path) -> xarray.Dataset:
    with data:
        check_declared_size(data.nbytes, path, "its variables together")
        return data.load()


def _engine(path: Path) -> str:
    """The library that reads the file, told by its first bytes.

    Raises:
        FileFormatError: they are those of no format that is read.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
    if head.startswith((b"CDF\x01", b"CDF\x02")):
        return "scipy"
    if head.startswith(b"CDF\x05"):
        raise FileFormatError(
            f"{str(path)!r} is NetCDF in the 64-bit data format (CDF-5), which is not read; convert it with "
            "`nccopy -k nc4 in.nc out.nc`."
        )
    if any(head[place : place + 4] == b"\x89HDF" for place in (0, 512, 1024, 2048)):
        return "h5netcdf"
    if b"GRIB" in head:
        require("cfgrib", f"{str(path)!r}, which is GRIB,", "anydiff-weather[grib]")
        return "cfgrib"
    raise FileFormatError(f"{str(path)!r} cannot be read as {WHAT} (it begins as none of them); {ADVICE}.")


def _open_grib(path: Path) -> xarray.Dataset:
    """All fields of a GRIB file. cfgrib alone drops, with a line in its log, fields whose levels disagree (2 m, 10 m).

    Raises:
        AnydiffError: two fields of one name, or of different times or grids.
    """
    import cfgrib

    # Without an index, which cfgrib would leave beside the user's file.
    parts = cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": ""}, decode_timedelta=False)
    advice = (
        "read the part you want with xarray.open_dataset(path, engine='cfgrib', filter_by_keys={...}), and write that "
        "with to_netcdf"
    )
    if not parts:
        raise FileFormatError(f"{str(path)!r} has no fields that cfgrib understands; {advice}.")
    merged: dict[str, xarray.DataArray] = {}
    for part in parts:
        check_declared_size(part.nbytes, path, "its fields together")
        for name, field in part.data_vars.items():
            if name in merged:
                one, two = _level(merged[str(name)]), _level(field)
                raise AnydiffError(f"{str(path)!r} has the variable {str(name)!r} at {one} and at {two}; {advice}.")
            merged[str(name)] = field
    levels = {name: {_level(field) for field in merged.values() if name in field.coords} for name in VERTICAL}
    differing = [name for name in VERTICAL if len(parts) > 1 and levels[name]]
    plain = [
        field.drop_vars([each for each in differing if each in field.coords and each not in field.dims]).rename(name)
        for name, field in merged.items()
    ]
    try:
        data = xarray.merge(plain, join="exact", compat="equals", combine_attrs="override")
    except ValueError as error:  # xarray.MergeError among them
        reason = " ".join(str(error).split())[:120]
        raise AnydiffError(
            f"the fields {sorted(merged)} of {str(path)!r} do not share times, members or grid ({reason}); {advice}."
        ) from error
    return data.assign_attrs(parts[0].attrs).load()


def _level(field: xarray.DataArray) -> str:
    kind = str(field.attrs.get("GRIB_typeOfLevel", "level"))
    value = field.coords.get(kind)
    return kind if value is None else f"{kind} {value.to_numpy().tolist()}"


def write_netcdf(data: xarray.Dataset, path: str | Path, encoding: Mapping[str, Any] | None = None) -> None:
    """One NetCDF 4 file, whole or not at all."""
    with atomic_path(path) as temporary:
        data.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)


def write_dataset(data: xarray.Dataset, path: str | Path) -> None:
    """A NetCDF file, or a Zarr group where ``path`` ends in ``.zarr``; what stands there is kept until it is whole.

    Raises:
        AnydiffError: another ending, a folder that is no Zarr group, or it cannot be written.
    """
    path = Path(path)
    if check_suffix(path, SUFFIXES, "weather fields") != ".zarr":
        write_netcdf(data, path)
        return
    if (
        path.is_dir()
        and any(os.scandir(path))
        and not any((path / name).is_file() for name in ("zarr.json", ".zgroup"))
    ):
        raise AnydiffError(f"{str(path)!r} is no Zarr group, so it is not overwritten; choose another folder.")
    with atomic_folder(path, replace=True) as temporary:
        data.to_zarr(temporary, mode="w", consolidated=False)
