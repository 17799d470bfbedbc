"""Fields with gaps, or on a coarser grid, as measurements of fields on the climatology's grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray

from anydiff.domains import Measurement
from anydiff.errors import AnydiffError
from anydiff_weather.checks import check_fields, standard_axes
from anydiff_weather.files import open_dataset

if TYPE_CHECKING:
    from anydiff_weather.domain import Weather


def read_measurement(domain: Weather, path: Path, output: tuple[int, ...]) -> Measurement:
    """See :meth:`anydiff_weather.domain.Weather.read_measurement`."""
    shape = domain.spec.shape
    if len(output) != len(shape) or output[0] != shape[0]:
        raise AnydiffError(
            f"this operator gives {output}, which are no fields of {shape[0]} variables; give the numbers in Python "
            "(pipeline.restore)."
        )
    blocks = {axis: size // part for axis, size, part in zip(domain.grid, shape[1:], output[1:], strict=True)}
    like = domain.climatology.mean.isel(dayofyear=[0])
    if any(block > 1 for block in blocks.values()):
        like = like.coarsen(blocks).mean()  # a cell lies where the mean of its points does
    what = repr(str(path))
    data = standard_axes(open_dataset(path), what)
    absent = [name for name in domain.variables if name not in data.data_vars]
    if absent:
        raise AnydiffError(
            f"{what} lacks the variable {absent[0]!r}; give each of {', '.join(domain.variables)}, NaN where it was "
            "not observed."
        )
    data = data[list(domain.variables)]
    seen = data.notnull()
    axes = ("time",) if "time" in data.dims else ()
    filled = check_fields(data.fillna(0.0), what, axes=axes, variables=domain.variables, like=like)
    # The same turns and orders as the fields, which the check may have changed.
    known = check_fields(_as_fields(seen, data), what, axes=axes, variables=domain.variables, like=like)
    values, present = (_array(each, domain, axes) for each in (filled, known))
    found = torch.from_numpy(np.where(present > 0.5, values, np.nan))
    return Measurement(found if axes else found[None])


def _as_fields(seen: xarray.Dataset, data: xarray.Dataset) -> xarray.Dataset:
    """Which values are there, as numbers with the units and axes of the data."""
    fields = {name: seen[name].astype(np.float64).assign_attrs(data[name].attrs) for name in data.data_vars}
    return xarray.Dataset(fields, data.coords, data.attrs)


def _array(data: xarray.Dataset, domain: Weather, axes: tuple[str, ...]) -> np.ndarray:
    extra = [axis for axis in map(str, data.dims) if axis not in (*axes, *domain.grid)]
    long = [axis for axis in extra if data.sizes[axis] != 1]
    if long:
        raise AnydiffError(
            f"the measurement has the axis {long[0]!r} of length {data.sizes[long[0]]}; select one entry."
        )
    array = data.squeeze(extra, drop=True).to_dataarray().transpose(*axes, "variable", *domain.grid)
    return array.to_numpy().astype(np.float64)
