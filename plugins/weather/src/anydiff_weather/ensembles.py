"""Forecast cases and what labels them: times, members and attributes go into a forecast's file as they came out of one.

Generated fields are told of which case they are, and as which member (:func:`labelled`). Fields that know it become one
data set with the axes time and number (:func:`gathered`), and are paired with the truth of their own case
(:func:`match`), in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from anydiff.domains import LabelledArray
from anydiff.errors import AnydiffError
from anydiff_weather.checks import standard_axes
from anydiff_weather.times import Moment, calendar_of, check_calendar, moments, pair, stamp, valid_times

STANDARD_NAMES = {"time": "forecast_reference_time", "step": "forecast_period", "valid_time": "time"}
REALIZATION = {"standard_name": "realization", "units": "1"}
ALONG_TIME = ("time", "valid_time", "case")
"""Coordinates that have a value for each case, even where they are all equal."""


@dataclass(frozen=True, eq=False)
class Case:
    """One forecast case, beyond its fields.

    Attributes:
        coordinates: scalars: time, step, valid_time, and whatever else the forecast's file has for each time.
        moment: by which it is paired.
        calendar: the class of its calendar.
        fields: attributes of each variable.
        attributes: of the whole data set.
    """

    coordinates: Mapping[str, xarray.Variable]
    moment: Moment
    calendar: str = "standard"
    fields: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    attributes: Mapping[Any, Any] = field(default_factory=dict)


def forecast_cases(data: xarray.Dataset, what: str = "the forecast") -> list[Case]:
    """A case for each entry of the axis ``time`` of ``data``, which has standard axes and at most one lead time.

    Raises:
        AnydiffError: there are no times, or what :func:`valid_times` refuses.
    """
    found = moments(data, what)
    valid = valid_times(data, what)
    assert valid is not None
    if "step" in data.coords:
        data = data.assign_coords(valid_time=valid.variable)
    kept = {
        str(name): _with_standard_name(str(name), each.variable)
        for name, each in data.coords.items()
        if not set(each.dims) - {"time"} and name not in ("latitude", "longitude", "number", "dayofyear")
    }
    fields = {str(name): dict(each.attrs) for name, each in data.data_vars.items()}
    calendar = calendar_of(valid)
    cases = []
    for row, moment in enumerate(found):
        scalars = {name: each.isel(time=row) if each.dims else each for name, each in kept.items()}
        cases.append(Case(scalars, moment, calendar, fields, dict(data.attrs)))
    return cases


def _with_standard_name(name: str, values: xarray.Variable) -> xarray.Variable:
    """``values`` without an index, with their CF standard name."""
    plain = values.to_base_variable()
    standard = {"standard_name": STANDARD_NAMES[name]} if name in STANDARD_NAMES else {}
    return xarray.Variable(plain.dims, plain.to_numpy(), {**standard, **plain.attrs})


def labelled(objects: Sequence[xarray.Dataset], cases: Sequence[Case], members: Sequence[int]) -> list[xarray.Dataset]:
    """Fields with the times and attributes of their case and the number of their member, as scalar coordinates."""
    return [_one_labelled(data, case, member) for data, case, member in zip(objects, cases, members, strict=True)]


def _one_labelled(data: xarray.Dataset, case: Case, member: int) -> xarray.Dataset:
    coordinates = {**case.coordinates, "number": xarray.Variable((), member, REALIZATION)}
    made = data.drop_vars("dayofyear", errors="ignore").assign_coords(coordinates)
    for name, attributes in case.fields.items():
        if name in made.data_vars:
            made[name].attrs = {**made[name].attrs, **attributes}
    return made.assign_attrs(case.attributes)


def assembled(
    fields: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]],
    grid: Mapping[Any, xarray.DataArray],
    cases: Sequence[Case],
    members: Sequence[int],
) -> xarray.Dataset:
    """One data set with the axes ``(time, number, *grid)``.

    Args:
        fields: of each variable its axes and values ``[members, cases, *axes]``.
        grid: coordinates of the grid.
        cases: along time.
        members: numbers along number.
    """
    first = cases[0]
    arrays = {
        name: (("number", "time", *axes), values, dict(first.fields.get(name, {})))
        for name, (axes, values) in fields.items()
    }
    coordinates: dict[Any, Any] = {}
    for name, value in first.coordinates.items():
        values = np.stack([case.coordinates[name].to_numpy() for case in cases])
        same = name not in ALONG_TIME and bool((values == values[0]).all())
        coordinates[name] = value if same else xarray.Variable("time", values, value.attrs)
    coordinates["number"] = xarray.Variable("number", np.asarray(members), REALIZATION)
    attributes = {"Conventions": "CF-1.11", **first.attributes}
    return xarray.Dataset(arrays, {**coordinates, **grid}, attributes).transpose("time", "number", ...)


def gathered(objects: Sequence[xarray.Dataset]) -> xarray.Dataset | None:
    """Fields that are all members of all cases, as one data set with the axes time and number; None where they are not.

    Args:
        objects: as :func:`labelled` leaves them, row i being member i // n of case i % n.
    """
    if not objects or any(
        name not in data.coords or data[name].ndim for data in objects for name in ("number", "time")
    ):
        return None
    numbers = [data["number"].item() for data in objects]
    count = next((row for row, number in enumerate(numbers) if number != numbers[0]), len(numbers))
    members = numbers[::count]
    if len(objects) % count or len(set(members)) != len(members):
        return None
    if numbers != [member for member in members for _ in range(count)]:
        return None
    keys = [_key(data) for data in objects]
    if keys != keys[:count] * len(members) or len({frozenset(map(str, data.coords)) for data in objects}) > 1:
        return None
    first = objects[0]
    fields = {}
    for name, array in first.data_vars.items():
        values = np.stack([data[name].to_numpy() for data in objects])
        fields[str(name)] = (tuple(map(str, array.dims)), values.reshape(len(members), count, *array.shape))
    grid = {name: each for name, each in first.coords.items() if each.ndim}
    about = {str(name): dict(each.attrs) for name, each in first.data_vars.items()}
    cases = [
        Case(
            {str(name): each.variable for name, each in data.coords.items() if not each.ndim and name != "number"},
            Moment(""),
            fields=about,
            attributes=first.attrs,
        )
        for data in objects[:count]
    ]
    return assembled(fields, grid, cases, members)


def _key(data: xarray.Dataset) -> tuple[str, ...]:
    """What the scalar coordinates of a field say of its case."""
    return tuple(f"{name}={data[name].to_numpy()}" for name in sorted(map(str, data.coords)) if not data[name].ndim
                 and name != "number")  # fmt: skip


def label_arrays(cases: Sequence[Case]) -> dict[str, LabelledArray]:
    """The scalar coordinates of cases as arrays along the axis ``case``, encoded as CF has it."""
    arrays = {}
    for name, value in cases[0].coordinates.items():
        values = np.stack([case.coordinates[name].to_numpy() for case in cases])
        encoded = xarray.conventions.encode_cf_variable(xarray.Variable("case", values, value.attrs), name=name)
        attributes = {str(key): each for key, each in encoded.attrs.items() if isinstance(each, (str, int, float))}
        arrays[name] = LabelledArray(encoded.to_numpy(), ("case",), attributes)
    return arrays


def match(objects: Sequence[xarray.Dataset], cases: Sequence[Case]) -> list[int]:
    """The case of each field, by its valid time.

    Raises:
        AnydiffError: fields without a time, of another calendar, of no case or of several, or of several base times
            for one case.
    """
    names = ("the samples", "the held-out data")
    given, bases = [], []
    for position, data in enumerate(objects):
        one = standard_axes(data, f"sample {position}")
        valid = valid_times(one, f"sample {position}")
        if valid is None or valid.ndim:
            raise AnydiffError(
                f"sample {position} has no time, so its truth is not known; give the samples the coordinates 'time' "
                "and 'step', or 'valid_time' (`anydiff sample --members` writes them)."
            )
        check_calendar(calendar_of(valid), cases[0].calendar, names)
        number = int(one["case"]) if "case" in one.coords and one["case"].ndim == 0 else None
        given.append(Moment(stamp(valid.to_numpy()[()]), number))
        bases.append(stamp(one["time"].to_numpy()[()]) if "time" in one.coords else "")
    places = pair(given, [case.moment for case in cases], names)
    leads: dict[int, set[str]] = {}
    for place, base in zip(places, bases, strict=True):
        leads.setdefault(place, set()).add(base)
    mixed = [place for place, found in leads.items() if len(found) > 1]
    if mixed:
        found = ", ".join(each[:16] for each in sorted(leads[mixed[0]])[:3])
        raise AnydiffError(
            f"{len(mixed)} of {len(leads)} valid times have samples of several base times (first "
            f"{cases[mixed[0]].moment}: {found}); select one lead time."
        )
    return places
