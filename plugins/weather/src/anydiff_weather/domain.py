"""Weather fields as states: standardised anomalies of an ``xarray.Dataset``, and the conditions of a forecast case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import xarray
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains import Domain, LabelledArray, Measurement
from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, Leaf, StateSpec
from anydiff_weather import ensembles
from anydiff_weather.checks import canonical_unit, check_fields, levels, standard_axes
from anydiff_weather.climatology import DAYS, Climatology
from anydiff_weather.files import SUFFIXES, open_dataset, write_dataset
from anydiff_weather.forecasts import as_forecast, forecast_conditions, forecast_dates
from anydiff_weather.grids import cell_weights
from anydiff_weather.measured import read_measurement
from anydiff_weather.times import one_lead, valid_times

SAMPLE = "sample"
CASE_AXES = (SAMPLE, "number", "time", "step", "case")
"""Axes along which a file holds several fields of the same variable."""


class Weather(Domain):
    """Fields of one grid as states ``[B, variables, *grid]``: anomalies by the statistics of their valid day.

    A native object is an ``xarray.Dataset`` of one time and member: the climatology's variables on its grid, with
    units, and scalar coordinates that tell when it is valid: ``time`` (of the base) and ``step``, or ``valid_time``, or
    ``dayofyear``. Without a day the statistics of the whole year are used, both ways.

    The conditions of a forecast case are ``members``, K exchangeable seed forecasts as anomalies of the valid day;
    ``climatology``, the mean field of the *base* day as an anomaly of the year; and ``valid_day``, cosine and sine of
    the valid day of the year, by which a sample is turned back.

    Args:
        climatology: ``lorenz96``, ``era5``, a file made by :meth:`Climatology.write`, or (in Python) a climatology
            itself; it gives variables, units and grid.
        seeds: K, the number of seed members.
    """

    name = "weather"
    suffixes = SUFFIXES
    floor: float | None = None
    """The least value that a state can mean (no rain, say); states below it mean the same."""
    condition_help = MappingProxyType({"members": "forecast.nc"})

    def __init__(self, climatology: str | Climatology = "lorenz96", seeds: int = 2) -> None:
        read = climatology if isinstance(climatology, Climatology) else Climatology.read(climatology)
        self._from_climatology(read, natural_number("seeds", seeds))

    def _from_climatology(self, climatology: Climatology, seeds: int) -> None:
        self.climatology = climatology
        self.seeds = seeds
        self.variables = self.climatology.variables
        self.grid = self.climatology.grid
        shape = tuple(self.climatology.mean.sizes[axis] for axis in self.grid)
        self._spec = StateSpec([Leaf("anomaly", (len(self.variables), *shape))])

    @property
    def spec(self) -> StateSpec:
        """One leaf ``anomaly``, ``(variables, *grid)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """Variables with units, grid, levels, calendar and numbers of the climatology, and how many seeds there are."""
        mean = self.climatology.mean
        axes = [mean[axis].to_numpy().astype(np.float64) for axis in self.grid if axis in mean.coords]
        return {
            "variables": list(self.variables),
            "units": [canonical_unit(mean[name].attrs.get("units", "1")) for name in self.variables],
            "grid": content_hash(*(np.round(axis, 3) for axis in axes))[:16],
            "levels": levels(mean),
            "calendar": self.climatology.calendar,
            "climatology": self.climatology.digest[:16],
            "seeds": self.seeds,
        }

    @property
    def conditions(self) -> dict[str, Any]:
        """``members``, ``climatology`` and ``valid_day``; see the class."""
        from anydiff.states import ArrayCondition, VectorCondition

        shape = self._spec.shape
        return {
            "members": ArrayCondition((self.seeds, *shape)),
            "climatology": ArrayCondition(shape),
            "valid_day": VectorCondition(2),
        }

    @property
    def weights(self) -> Tensor:
        """Relative cell areas ``[*grid]``, mean 1."""
        return torch.from_numpy(cell_weights(self.climatology.mean))

    def values(self, data: xarray.Dataset, axes: Sequence[str], what: str) -> NDArray[np.float32]:
        """``data`` as ``[*axes, variables, *grid]`` after all checks; further axes of length one are dropped.

        Raises:
            AnydiffError: see :func:`anydiff_weather.checks.check_fields`.
        """
        checked = check_fields(data, what, axes=axes, variables=self.variables, like=self.climatology.mean)
        extra = [axis for axis in map(str, checked.dims) if axis not in (*axes, *self.grid)]
        for axis in extra:
            if checked.sizes[axis] != 1:
                raise AnydiffError(f"{what} has the axis {axis!r} of length {checked.sizes[axis]}; select one entry.")
        array = checked.squeeze(extra, drop=True).to_dataarray().transpose(*axes, "variable", *self.grid)
        return array.to_numpy().astype(np.float32)

    def encode(self, objects: Sequence[xarray.Dataset]) -> Tensor:
        """Anomalies float32 of data sets of one time each.

        Raises:
            AnydiffError: a variable, axis, coordinate, unit or value is missing or wrong.
        """
        rows = []
        for position, data in enumerate(objects):
            what = f"field {position}" + (f" of {data.encoding['source']!r}" if "source" in data.encoding else "")
            values = self.values(data, (), what)[None]
            day = self.day_of_year(data, what)
            rows.append(self.climatology.normalise(values, None if day is None else np.array([day])))
        if not rows:
            return torch.empty(0, *self._spec.shape)
        return torch.from_numpy(np.concatenate(rows))

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[xarray.Dataset]:
        """Data sets with units and coordinates; ``dayofyear`` where the condition tells the valid day.

        Raises:
            AnydiffError: states of another shape.
        """
        self._spec.check(states)
        values, day = self._denormalised(states, condition)
        template = self.climatology.mean.isel(dayofyear=0, drop=True)
        objects = []
        for row, fields in enumerate(values):
            arrays = {
                name: (self.grid, field, template[name].attrs)
                for name, field in zip(self.variables, fields, strict=True)
            }
            made = xarray.Dataset(arrays, template.coords)
            objects.append(made if day is None else made.assign_coords(dayofyear=int(day[row])))
        return objects

    def arrays(self, states: Tensor, condition: Conditioning | None = None) -> dict[str, LabelledArray]:
        """Each variable ``[B, *grid]`` in its own units, with its CF attributes."""
        self._spec.check(states)
        values, _ = self._denormalised(states, condition)
        return {
            name: LabelledArray(values[:, channel], self.grid, _plain(self.climatology.mean[name].attrs))
            for channel, name in enumerate(self.variables)
        }

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """Each variable in its own units, ``[B, variables, *grid]``, by the statistics of the valid day if it is known;
        differentiable."""
        day = decode_day(condition.given["valid_day"]) if "valid_day" in condition.given else None
        mean, std = (torch.from_numpy(each).to(states) for each in self.climatology.statistics(day))
        return states * std + mean

    def coordinates(self) -> dict[str, LabelledArray]:
        """The grid's coordinates with their units."""
        return {
            str(name): LabelledArray(value.to_numpy(), tuple(map(str, value.dims)), _plain(value.attrs))
            for name, value in self.climatology.mean.coords.items()
            if "dayofyear" not in value.dims
        }

    def _denormalised(
        self, states: Tensor, condition: Conditioning | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        day = None
        if condition is not None and "valid_day" in condition.given:
            day = decode_day(condition.given["valid_day"])
        return self.climatology.denormalise(states.detach().cpu().double().numpy(), day), day

    def case_conditions(
        self, members: NDArray[Any], base_day: NDArray[np.int64], valid_day: NDArray[np.int64]
    ) -> dict[str, Tensor]:
        """Conditions of cases from seed forecasts ``[B, K, variables, *grid]`` in units, and days of the year ``[B]``.

        Raises:
            AnydiffError: another number of seeds than the domain's.
        """
        if members.shape[1] != self.seeds:
            raise AnydiffError(f"the forecast has {members.shape[1]} seed members, but {self.seeds} are needed.")
        flat = members.reshape(-1, *members.shape[2:])
        anomalies = self.climatology.normalise(flat, np.repeat(valid_day, self.seeds))
        return {
            "members": torch.from_numpy(anomalies.reshape(members.shape)),
            "climatology": torch.from_numpy(self.climatology.base_day_field(base_day)),
            "valid_day": encode_day(valid_day),
        }

    def read(self, path: str | Path) -> list[xarray.Dataset]:
        """One data set per sample, member, time or case of a NetCDF, Zarr or GRIB file.

        Raises:
            AnydiffError: no such file, or no fields of this grid.
            FileFormatError: it cannot be read.
        """
        data = standard_axes(open_dataset(path), repr(str(path)))
        fields = [name for name in self.variables if name in data.data_vars]
        if not fields:
            raise AnydiffError(
                f"{str(path)!r} has none of the variables {list(self.variables)}, but "
                f"{sorted(map(str, data.data_vars))}; rename them."
            )
        axes = [axis for axis in CASE_AXES if axis in data[fields].dims]
        if not axes:
            return [_from_file(data[fields], path)]
        stacked = data[fields].stack({"_row": axes}, create_index=False)
        return [_from_file(stacked.isel(_row=row), path) for row in range(stacked.sizes["_row"])]

    def write(self, objects: Sequence[xarray.Dataset], path: str | Path) -> None:
        """Write one NetCDF file, or a Zarr group where ``path`` ends in ``.zarr``.

        Members of forecast cases (:meth:`labelled`) stand along the axes time and number, other fields along the axis
        ``sample``. What stands at ``path`` is kept until the new file is whole.

        Raises:
            AnydiffError: another ending, a folder that is no Zarr group, or it cannot be written.
        """
        data = ensembles.gathered(objects)
        if data is None:
            data = xarray.concat(objects, SAMPLE, coords="different", compat="equals", join="exact")
            data.attrs.setdefault("Conventions", "CF-1.11")
        write_dataset(data, path)

    def draw(self, objects: Sequence[xarray.Dataset], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Maps (or curves along a latitude circle) of the first variable, with mean and spread of all objects."""
        from anydiff_weather import pictures

        pictures.draw_members([self._plain_fields(data) for data in objects], Path(path), titles, self.variables[0])

    def day_of_year(self, data: xarray.Dataset, what: str) -> int | None:
        """The day of the year at which a field is valid: by its times, else by ``dayofyear``; None without any.

        Raises:
            AnydiffError: several times, or those of another calendar than the climatology's.
        """
        data = one_lead(standard_axes(data, what), what)
        valid = valid_times(data, what)
        if valid is None:
            return int(data["dayofyear"]) if "dayofyear" in data.coords and data["dayofyear"].size == 1 else None
        if valid.size != 1:
            raise AnydiffError(f"{what} has {valid.size} times; select one.")
        return int(self.climatology.days(valid, what).reshape(()))

    def _plain_fields(self, data: xarray.Dataset) -> xarray.Dataset:
        return standard_axes(data)[list(self.variables)]

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """Fields of a file in their own units, NaN where nothing was observed: on this grid, or on the coarser one of
        an
        operator that averages; each time is a case.

        Raises:
            AnydiffError: another grid, unit, level or variables, or a file of masks, which fields do not need.
        """
        if mask is not None:
            raise AnydiffError(f"--mask is {str(mask)!r}, but fields tell by NaN what was not observed; leave it out.")
        return read_measurement(self, Path(path), tuple(output))

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"members": "forecast.nc"}``: the first K members of each of the forecasts in a file, which are the cases.

        The file needs the axes number and time (of the base), and a coordinate step or valid_time.

        Raises:
            UnknownNameError: another name.
            AnydiffError: the file lacks something, or has another number of times than ``count``.
        """
        forecast = self._named_forecast(text)
        if forecast is None:
            return {}
        found = forecast_conditions(self, forecast)
        times = len(found["valid_day"])
        if times != count:
            raise AnydiffError(
                f"{text['members']!r} has {times} times, which are {times} cases, but {count} samples "
                "were asked for; use `anydiff sample --members`, or emulate() of anydiff_weather.seeds."
            )
        return found

    def _named_forecast(self, text: Mapping[str, str]) -> xarray.Dataset | None:
        """The forecast that a user names; None where no condition is asked for."""
        for name in text:
            if name in ("climatology", "valid_day"):
                raise AnydiffError(f"{name} follows from the forecast; give --condition members=forecast.nc alone.")
            if name != "members":
                raise UnknownNameError("condition", name, ["members"])
        if not text:
            return None
        return as_forecast(open_dataset(text["members"]), repr(text["members"]))

    def labels(self, text: Mapping[str, str]) -> list[ensembles.Case] | None:
        """A case for each time of the forecast in a file: ``{"members": "forecast.nc"}``.

        Raises:
            UnknownNameError: another name.
            AnydiffError: the file lacks something.
        """
        forecast = self._named_forecast(text)
        if forecast is None:
            return None
        forecast_dates(forecast)
        known = [name for name in self.variables if name in forecast.data_vars]
        return ensembles.forecast_cases(forecast[known], repr(text["members"]))

    def labelled(
        self, objects: Sequence[xarray.Dataset], labels: Sequence[ensembles.Case], members: Sequence[int]
    ) -> list[xarray.Dataset]:
        """Fields with time, step, valid_time and number as scalar coordinates, and the attributes of the forecast."""
        return ensembles.labelled(objects, labels, members)

    def label_arrays(self, labels: Sequence[ensembles.Case]) -> dict[str, LabelledArray]:
        """Times of cases, encoded as CF has it."""
        return ensembles.label_arrays(labels)

    def match(self, objects: Sequence[xarray.Dataset], labels: Sequence[ensembles.Case]) -> list[int]:
        """The case of each field, by its valid time.

        Raises:
            AnydiffError: a field without time, or of a valid time that the held-out data lack or have twice.
        """
        return ensembles.match(objects, labels)

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """The valid day of each sample."""
        if "valid_day" not in condition.given:
            return []
        return [f"day {day}" for day in decode_day(condition.given["valid_day"])]


def _from_file(data: xarray.Dataset, path: str | Path) -> xarray.Dataset:
    """``data``, which know from which file they are, as xarray notes it: errors name it."""
    data.encoding["source"] = str(path)
    return data


def encode_day(day: NDArray[np.int64]) -> Tensor:
    """Days of the year 1 to 366 ``[B]`` as cosine and sine, float32 ``[B, 2]``."""
    angle = torch.from_numpy(np.asarray(day, dtype=np.float64)) * (2 * math.pi / DAYS)
    return torch.stack([angle.cos(), angle.sin()], dim=1).float()


def decode_day(circle: Tensor) -> NDArray[np.int64]:
    """The inverse of :func:`encode_day`."""
    circle = circle.detach().cpu().double()
    day = torch.atan2(circle[:, 1], circle[:, 0]) * (DAYS / (2 * math.pi))
    whole: NDArray[np.int64] = (torch.round(day).long() - 1).remainder(DAYS).numpy() + 1
    return whole


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as plain data that JSON can hold."""
    return {
        str(name): value.item() if isinstance(value, np.generic) else value
        for name, value in attributes.items()
        if isinstance(value, (str, int, float, np.generic))
    }
