"""Time series data: hourly traffic and PM2.5 (bundled), exchange rates (by container), Gaussian series, your own."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from anydiff.data import ArrayDataset, cached_container, read_members
from anydiff.data.reading import finite, read_text, reading
from anydiff.domains import Domain
from anydiff.domains.kit import check_split, domain_of_data
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.states import standard_normal
from anydiff_timeseries import ledger
from anydiff_timeseries.bundle import read_bundle
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.files import read_series
from anydiff_timeseries.frequency import frequency, quietly
from anydiff_timeseries.scaling import unit
from anydiff_timeseries.series import Series, as_series, distinct
from anydiff_timeseries.stamps import parse_stamps
from anydiff_timeseries.tables import Layout
from anydiff_timeseries.windows import WindowDataset

MOST_BYTES = 64 << 20
ADVICE = "fetch it by `anydiff data get timeseries/exchange-rate`"

TEST_FROM = {"traffic": "2018-04-01 00:00", "pm25": "2014-01-01 00:00", "exchange-rate": "2006-01-02"}
"""The first period of each test split; what lies before is for training."""


def part(series: Series, split: str, boundary: str, context: int) -> Series:
    """The part of ``series`` before ``boundary`` (train), or from one context before it on (test).

    Args:
        series: the whole.
        split: ``"train"`` or ``"test"``.
        boundary: the first time of the test split, ISO 8601.
        context: steps.

    Raises:
        AnydiffError: a boundary that is no time, or lies outside the series.
    """
    check_split(split)
    time = parse_stamps([str(boundary)], "the boundary of the test split")[0].tz_localize(None)
    step = frequency(series.start.freqstr).step
    # The difference of two periods counts single ones ("h"), not the steps of the series ("2h").
    with quietly():
        first = -((series.start.ordinal - pd.Period(time, freq=series.start.freq).ordinal) // step)
        last, cut = series.start + len(series) - 1, series.start + max(0, first - context)
    if not 0 < first < len(series):
        raise AnydiffError(
            f"the boundary {boundary} lies outside series {series.name!r} ({series.start} to {last}); "
            "choose one inside."
        )
    if split == "train":
        return replace(series, values=series.values[:first])
    return replace(series, start=cut, values=series.values[max(0, first - context) :])


class _Hourly(WindowDataset):
    """A bundled hourly series; context, prediction and season are the domain's unless they are given."""

    which: str
    unit: str

    def __init__(
        self,
        split: str = "train",
        context: int | None = None,
        prediction: int | None = None,
        season: int | None = None,
        stride: int = 1,
        test_windows: int = 64,
        loss: str = "all",
        hide: str = "none",
        domain: Domain | None = None,
    ) -> None:
        own: dict[str, Any] = {"context": context, "prediction": prediction, "season": season}
        made = domain_of_data(TimeSeries, domain, freq="h", unit=self.unit, **own)
        series = part(read_bundle(self.which), split, TEST_FROM[self.which], made.context)
        super().__init__(f"timeseries/{self.which}", [series], split, made, stride, test_windows, loss, hide)


class Traffic(_Hourly):
    """Hourly traffic volume on I-94 (Hogue 2019, CC BY 4.0): options as for :class:`WindowDataset`."""

    which, unit = "traffic", "vehicles per hour"


class BeijingPM25(_Hourly):
    """Hourly PM2.5 in Beijing with its real gaps (Liang et al. 2015, CC BY 4.0): options of :class:`WindowDataset`."""

    which, unit = "pm25", "ug/m3"


class ExchangeRate(WindowDataset):
    """Eight daily exchange rates (Lai et al. 2018), fetched by ``anydiff data get timeseries/exchange-rate``.

    Args:
        split: ``"train"`` or ``"test"``.
        context: steps of the past; None for the domain's.
        prediction: steps to predict; None for the domain's.
        test_windows: at most so many test windows.
        path: the file ``exchange_rate.txt`` or the container; None takes the one fetched.
        domain: the recipe's; None makes one of a context of 120 and a prediction of 30 steps.
    """

    def __init__(
        self,
        split: str = "train",
        context: int | None = None,
        prediction: int | None = None,
        test_windows: int = 64,
        path: str | Path | None = None,
        domain: Domain | None = None,
    ) -> None:
        source = cached_container(ledger.EXCHANGE) if path is None else Path(path)
        if source.suffix == ".txt":
            content = read_text(source, MOST_BYTES, "exchange_rate.txt", ADVICE).encode()
        else:
            content = read_members(source, ledger.EXCHANGE.container.members)[ledger.EXCHANGE_MEMBER]  # type: ignore[union-attr]
        with reading(source, "eight columns of rates", ADVICE):
            table = finite(np.loadtxt(io.BytesIO(content), delimiter=",", ndmin=2), "the table of rates", source)
        if table.shape[1] != 8:
            raise FileFormatError(f"{str(source)!r} has {table.shape[1]} columns, but there are 8 rates; {ADVICE}.")
        with quietly():
            start = pd.Period("1990-01-01", freq="B")
        own: dict[str, Any] = {"context": context, "prediction": prediction, "freq": "B", "season": 5, "unit": ""}
        made = domain_of_data(TimeSeries, domain, {"context": 120, "prediction": 30}, **own)
        series = [
            part(Series(f"rate {number}", start, column), split, TEST_FROM["exchange-rate"], made.context)
            for number, column in enumerate(np.ascontiguousarray(table.T))
        ]
        super().__init__("timeseries/exchange-rate", series, split, made, 1, test_windows)


class CSVSeries(WindowDataset):
    """Your own series: a CSV file with a column of time stamps and one of numbers, or JSON lines as GluonTS has them.

    Gaps are missing values. A file of several series names each row's in a column ``item_id``.

    Args:
        path: the file: ``.csv``, ``.tsv``, ``.jsonl`` or ``.json``.
        split: ``"train"`` or ``"test"``.
        boundary: the first time of the test split, ISO 8601.
        freq: the frequency, as pandas writes it; None takes that of the stamps.
        season: steps of the season of a naive forecast; None takes what is usual for the frequency (24 hours, 7 days,
            12 months), if the context holds it, else 1.
        domain: the recipe's, whose context and prediction hold unless they are given; None makes one.
        options: context, prediction and unit of the domain; stride, test_windows, loss and hide of
            :class:`WindowDataset`; value, stamps, item, header, date_format, day_first, zone, separator, decimal,
            encoding and missing of :class:`~anydiff_timeseries.tables.Layout`.

    Raises:
        AnydiffError: the file or a series is refused, two series have one name, or they have different frequencies.
    """

    def __init__(
        self,
        path: str,
        boundary: str,
        split: str = "train",
        freq: str | None = None,
        season: int | None = None,
        domain: Domain | None = None,
        **options: Any,
    ) -> None:
        windows = {name: options.pop(name) for name in ("stride", "test_windows", "loss", "hide") if name in options}
        own = {name: options.pop(name) for name in ("context", "prediction", "unit") if name in options}
        found = distinct(read_series(Path(path), freq, Layout.parse(options)))
        grids = {frequency(one.start.freqstr) for one in found}
        if len(grids) > 1:
            aliases = ", ".join(sorted(repr(grid.alias) for grid in grids))
            raise AnydiffError(f"the series of {path!r} have the frequencies {aliases}; give each its own file.")
        grid = grids.pop()
        lengths: dict[str, Any] = {name: own.get(name) for name in ("context", "prediction")}
        sizes = domain_of_data(TimeSeries, domain, season=1, **lengths)
        if season is None:
            usual = grid.season
            season = usual if usual <= sizes.context else 1
        told: dict[str, Any] = {
            "freq": grid.alias if freq is None else freq,
            "season": season,
            "unit": own.get("unit") or "",
        }
        made = TimeSeries(sizes.context, sizes.prediction, **told)
        series = [part(one, split, boundary, made.context) for one in found]
        super().__init__("timeseries/csv", series, split, made, **windows)


class FrameSeries(WindowDataset):
    """Pandas data or a GluonTS data set in memory as windows; see :func:`anydiff_timeseries.series.as_series`.

    Args:
        data: the series.
        domain: context, prediction and frequency.
        split: names the kind of windows: ``"train"`` or ``"test"``.
        options: stride, test_windows, loss and hide of :class:`WindowDataset`.
    """

    def __init__(self, data: Any, domain: TimeSeries, split: str = "train", **options: Any) -> None:
        super().__init__("timeseries/frame", as_series(data, domain.freq), split, domain, **options)


def seasonal_covariance(length: int = 40, period: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    """C_ij = 0.7 cos(2π (i-j)/period) + 0.3 · 0.8^|i-j| + 0.02 δ_ij: a season, an AR(1) and noise, stationary."""
    steps = torch.arange(length, dtype=torch.float64)
    lag = steps[:, None] - steps
    covariance = 0.7 * torch.cos(2 * torch.pi * lag / period) + 0.3 * 0.8 ** lag.abs()
    return (covariance + 0.02 * torch.eye(length, dtype=torch.float64)).to(dtype)


class SeasonalGaussian(ArrayDataset):
    """Windows of a stationary seasonal Gaussian process, whose conditionals are known; exact.

    As for every data set, states are in units of each window's level and ``observed`` in those of the process, in which
    :func:`conditional` knows the prediction's law.

    Args:
        split: ``"train"`` or ``"test"``; disjoint random streams.
        count: number of windows.
        seed: of the draws.
    """

    name = "timeseries/seasonal-gaussian"
    context, prediction, period = 32, 8, 8

    def __init__(self, split: str = "train", count: int = 2000, seed: int = 0) -> None:
        check_split(split)
        root = torch.linalg.cholesky(seasonal_covariance())
        noise = standard_normal(seed, range(count), 0, f"timeseries/seasonal-gaussian/{split}", (40,))
        windows = torch.from_numpy(noise) @ root.T
        mask = (torch.arange(40) < self.context).float().expand(count, 40)
        observed = torch.stack([windows.float() * mask, mask], dim=1)
        super().__init__(unit(observed.double()).encode(windows)[:, None], {"observed": observed})

    @property
    def domain(self) -> TimeSeries:
        """Context 32, prediction 8."""
        return TimeSeries(self.context, self.prediction, "h", self.period)


def conditional(observed: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[B, H]`` and covariance ``[H, H]`` of the unobserved steps given the observed ones, exact.

    Args:
        observed: ``[B, 2, L]``, one mask for all.
        covariance: of the zero-mean Gaussian window ``[L, L]``.
    """
    seen = observed[0, 1] > 0
    past, cross, future = (covariance[a][:, b] for a, b in ((seen, seen), (~seen, seen), (~seen, ~seen)))
    gain = torch.linalg.solve(past, cross.T).T
    return observed[:, 0, seen].to(covariance.dtype) @ gain.T, future - gain @ cross.T
