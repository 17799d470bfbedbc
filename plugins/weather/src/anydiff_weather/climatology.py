"""The climatology of a grid: mean and standard deviation by variable, day of the year and place.

An anomaly is (value - mean of its valid day) / (standard deviation of its valid day). A forecast has two days: the base
day, whose climatological mean a network may be told, and the valid day, by whose statistics anomalies are made and
undone. Swapping them is silent at short leads and wrong at long ones, so both are named everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from anydiff.data.reading import finite
from anydiff.domains.kit import Gaussian, content_hash
from anydiff.errors import AnydiffError, FileFormatError
from anydiff_weather.checks import BLOCK_VALUES, LEVELS, check_fields
from anydiff_weather.files import open_dataset, write_netcdf
from anydiff_weather.times import calendar_of, check_calendar, days_of_year, valid_times

DAYS = 366
CALENDAR = "climatology_calendar"
"""The attribute that tells the calendar."""
BUNDLED = ("lorenz96", "era5")
"""Climatologies that come with the package."""


@dataclass(frozen=True, eq=False)
class Climatology:
    """Mean and standard deviation by day of the year.

    Attributes:
        mean: data set with the axes ``(dayofyear, *grid)``, dayofyear 1 to 366, and the units of the variables.
        std: the same for the standard deviations.
    """

    mean: xarray.Dataset
    std: xarray.Dataset

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in the order of a state's channels."""
        return tuple(str(name) for name in self.mean.data_vars)

    @property
    def grid(self) -> tuple[str, ...]:
        """Names of the grid's axes."""
        return tuple(str(name) for name in self.mean[self.variables[0]].dims[1:])

    @functools.cached_property
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation as ``[366, channels, *grid]``."""
        order = ("dayofyear", "variable", *self.grid)
        both = (each.to_dataarray().transpose(*order).to_numpy().astype(np.float32) for each in (self.mean, self.std))
        mean, std = both
        return mean, std

    @functools.cached_property
    def yearly(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean of the year, and standard deviation of the days' means and of their departures together, per entry."""
        mean, std = self.arrays
        return mean.mean(0), np.sqrt(mean.var(0) + np.square(std).mean(0))

    def normalise(self, values: NDArray[Any], day: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Anomalies of ``values [B, channels, *grid]`` on the days of the year ``day [B]`` (1 to 366; None: yearly)."""
        mean, std = self.statistics(day)
        return Gaussian(mean, std).encode(values).astype(np.float32)

    def denormalise(self, anomalies: NDArray[Any], day: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """The values whose anomalies on ``day`` are ``anomalies``: the inverse of :meth:`normalise`."""
        mean, std = self.statistics(day)
        return Gaussian(mean, std).decode(anomalies).astype(np.float32)

    def base_day_field(self, day: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a network is told of the base day ``[B, channels, *grid]``: its mean, as an anomaly of the year."""
        mean, std = self.yearly
        return Gaussian(mean, std).encode(self.arrays[0][day - 1]).astype(np.float32)

    def statistics(self, day: NDArray[np.int64] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the days ``day [B]``, ``[B, channels, *grid]``; None: yearly, one row less."""
        mean, std = self.yearly if day is None else (each[day - 1] for each in self.arrays)
        return mean.astype(np.float64), std.astype(np.float64)

    @classmethod
    def fit(cls, past: xarray.Dataset, harmonics: int = 2) -> Climatology:
        """The climatology of past states (reanalysis), by least squares on harmonics of the year.

        Mean and variance of each variable at each place are fitted to 1, cos(2π n d/365.25), sin(2π n d/365.25) for n
        up to ``harmonics``; the variance is that of the departures from the fitted mean, at least 5 % of its yearly
        value.

        The fields are gone through block by block, twice, so ``past`` may be larger than memory
        (``open_dataset(path, in_memory=False)``).

        Args:
            past: variables ``(time, *grid)``.
            harmonics: 0 for statistics that do not depend on the day.

        Raises:
            AnydiffError: missing axes or units, values that are not finite, too few times, or a constant variable.
        """
        past = check_fields(past, "the past states", axes=("time",))
        dates = valid_times(past, "the past states")
        assert dates is not None
        _check_axes(past)
        terms = 2 * harmonics + 1
        if past.sizes["time"] < 2 * terms:
            raise AnydiffError(
                f"the past states have {past.sizes['time']} times, but {harmonics} harmonics need at least "
                f"{2 * terms}; give more or lower harmonics."
            )
        basis = _basis(days_of_year(dates), harmonics)
        days = _basis(np.arange(1, DAYS + 1), harmonics)
        mean, std = {}, {}
        for name, field in past.data_vars.items():
            dims = [str(axis) for axis in field.dims if axis != "time"]
            ordered = field.transpose("time", *dims)
            coefficients, variances, yearly, largest = _harmonics(ordered, basis)
            if not (yearly > np.square(1e-7 * largest)).all():
                raise AnydiffError(f"variable {name!r} is constant at some place, so it has no anomalies; drop it.")
            shape = (DAYS, *ordered.shape[1:])
            fitted = np.sqrt(np.maximum(days @ variances, 0.05 * yearly))
            mean[name] = (("dayofyear", *dims), (days @ coefficients).reshape(shape).astype(np.float32), field.attrs)
            std[name] = (("dayofyear", *dims), fitted.reshape(shape).astype(np.float32), field.attrs)
        kept = {
            name: value
            for name, value in past.coords.items()
            if (value.ndim and "time" not in value.dims) or (not value.ndim and name in LEVELS)
        }
        coordinates = {"dayofyear": np.arange(1, DAYS + 1), **kept}
        about = {CALENDAR: calendar_of(dates)}
        return cls(xarray.Dataset(mean, coordinates, about), xarray.Dataset(std, coordinates, about))

    @property
    def calendar(self) -> str:
        """The class of calendar that the days are of."""
        return str(self.mean.attrs.get(CALENDAR, "standard"))

    def days(self, dates: xarray.DataArray, what: str) -> NDArray[np.int64]:
        """Days of the year of ``dates``.

        Raises:
            AnydiffError: they are of another calendar than the climatology.
        """
        check_calendar(calendar_of(dates), self.calendar, (what, "the climatology"))
        return days_of_year(dates)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of mean and standard deviation, hexadecimal."""
        return content_hash(*self.arrays)

    def write(self, path: str | Path) -> None:
        """Write one NetCDF file with an axis ``statistic``: mean, then std."""
        both = xarray.concat([self.mean, self.std], "statistic").assign_coords(statistic=["mean", "std"])
        packed = {name: {"zlib": True, "complevel": 9, "shuffle": True} for name in self.variables}
        write_netcdf(both, path, packed)

    @classmethod
    def read(cls, source: str | Path) -> Climatology:
        """A bundled climatology by name, or a file that :meth:`write` made.

        Raises:
            AnydiffError: no such file.
            FileFormatError: the file is none of :meth:`write`.
        """
        if str(source) in BUNDLED:
            return _bundled(str(source))
        return cls._from_file(Path(source))

    @classmethod
    def _from_file(cls, path: Path) -> Climatology:
        data = open_dataset(path)
        if "statistic" not in data.dims or data.sizes.get("dayofyear") != DAYS:
            raise FileFormatError(
                f"{str(path)!r} is no climatology (it has the axes {sorted(map(str, data.dims))}); make one with "
                "Climatology.fit(past).write(path)."
            )
        made = cls(data.sel(statistic="mean", drop=True), data.sel(statistic="std", drop=True))
        _check_statistics(made, path)
        return made


@functools.cache
def _bundled(name: str) -> Climatology:
    path = resources.files("anydiff_weather").joinpath("bundled", f"{name}_climatology.nc")
    return Climatology._from_file(Path(str(path)))


def _check_axes(past: xarray.Dataset) -> None:
    """Refuse axes beside time and the grid: members or levels would become parts of the grid.

    Raises:
        AnydiffError: names the first.
    """
    extra = [str(axis) for axis in past.dims if str(axis) not in ("time", "latitude", "longitude", "face", "y", "x")]
    if extra:
        raise AnydiffError(
            f"the past states have the axis {extra[0]!r} of length {past.sizes[extra[0]]} beside time and grid; select "
            f"one entry with isel({extra[0]}=0), or stack it with time."
        )


def _check_statistics(made: Climatology, path: Path) -> None:
    """Refuse a file of statistics that no anomaly can be made of.

    Raises:
        NonFiniteError: a value is not finite.
        FileFormatError: a standard deviation is not above zero.
    """
    for values, what in zip(made.arrays, ("the means", "the standard deviations"), strict=True):
        finite(values, what, path)
    if not (made.arrays[1] > 0).all():
        raise FileFormatError(
            f"{str(path)!r} has standard deviations that are not above 0; make it with "
            "Climatology.fit(past).write(path)."
        )


def _harmonics(
    field: xarray.DataArray, basis: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Coefficients of mean and variance ``[terms, places]``, mean variance ``[places]``, and the largest value.

    ``field [time, *grid]`` is read in blocks: first for B⁺ x, then for B⁺ (x - B B⁺ x)² with the N - terms of an
    unbiased variance.
    """
    inverse = np.linalg.pinv(basis)
    count, terms = basis.shape
    scale = count / (count - terms)
    coefficients, largest = np.zeros((terms, field[0].size)), 0.0
    for rows, values in _blocks(field):
        coefficients += inverse[:, rows] @ values
        largest = max(largest, float(np.abs(values).max()))
    variances, yearly = np.zeros_like(coefficients), np.zeros(field[0].size)
    for rows, values in _blocks(field):
        squares = np.square(values - basis[rows] @ coefficients) * scale
        variances += inverse[:, rows] @ squares
        yearly += squares.sum(0) / count
    return coefficients, variances, yearly, largest


def _blocks(field: xarray.DataArray) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    size = max(1, BLOCK_VALUES // max(1, field[0].size))
    for begin in range(0, len(field), size):
        rows = slice(begin, begin + size)
        values = field.isel(time=rows).to_numpy().astype(np.float64)
        yield rows, values.reshape(len(values), -1)


def _basis(day: NDArray[Any], harmonics: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.asarray(day, dtype=np.float64) / 365.25
    columns = [np.ones_like(angle)]
    for number in range(1, harmonics + 1):
        columns += [np.cos(number * angle), np.sin(number * angle)]
    return np.stack(columns, axis=1)
