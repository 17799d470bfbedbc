"""Scores of forecast ensembles: of states for ``evaluate`` and tasks, and of ``xarray`` data sets by variable.

The metrics of a sample set are weighted by cell area and computed on anomalies, in units of the climatological
standard deviation, so that variables can share a mean; :func:`verify` computes the field's whole table by variable, in
the variable's own units, with ``scoringrules`` and ``xskillscore``.
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import replace

import numpy as np
import scoringrules
import torch
import xarray
import xskillscore
from numpy.typing import NDArray
from torch import Tensor

from anydiff import metrics as scores
from anydiff.domains import Domain
from anydiff.metrics import EnsembleMetric, MetricCard
from anydiff_weather.checks import check_fields
from anydiff_weather.climatology import Climatology
from anydiff_weather.domain import Weather
from anydiff_weather.forecasts import as_forecast
from anydiff_weather.grids import cell_weights
from anydiff_weather.times import calendar_of, check_calendar, check_complete, moments, pair, valid_times

UNIT = "climatological standard deviation"


class _Weighted(EnsembleMetric):
    """Cells weighted by area where the domain has any."""

    def weights(self, domain: Domain) -> Tensor | None:
        """Relative cell areas, the same for every variable."""
        return domain.weights if isinstance(domain, Weather) else None


def _renamed(card: MetricCard, name: str, unit: str = UNIT) -> MetricCard:
    return replace(card, name=name, unit=unit, version=f"{card.version}; cells weighted by area")


class CRPS(_Weighted, scores.EnsembleCRPS):
    """Mean CRPS of anomalies, standard estimator: that of the finite ensemble as it is used."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return _renamed(super().card, "weather/crps")


class FairCRPS(_Weighted, scores.FairEnsembleCRPS):
    """Mean CRPS of anomalies, fair estimator: does not depend on the number of members."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return _renamed(super().card, "weather/crps-fair")


class RMSE(_Weighted, scores.EnsembleRMSE):
    """Root mean squared error of the ensemble mean of anomalies."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return _renamed(super().card, "weather/rmse")


class SpreadSkill(_Weighted, scores.SpreadSkill):
    """Departure of the spread-skill ratio from 1."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return _renamed(super().card, "weather/spread-skill", "1")


class RankHistogram(_Weighted, scores.RankHistogramDistance):
    """Departure of the rank histogram from flat; every cell counts once."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return replace(super().card, name="weather/rank-histogram")


class EnergyScore(EnsembleMetric):
    """Energy score of whole fields: E|X - y| - E|X - X'|/2 in the area-weighted norm, over the root of the entries."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return MetricCard(
            name="weather/energy-score",
            direction="lower",
            unit=UNIT,
            range=(0.0, math.inf),
            ideal=0.0,
            minimum_samples=1,
            version="1: standard estimator, area-weighted norm over sqrt(entries)",
            library=f"scoringrules {importlib.metadata.version('scoringrules')}",
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """Mean over cases."""
        return energy_score(members, truth, weights)

    def weights(self, domain: Domain) -> Tensor | None:
        """Relative cell areas."""
        return domain.weights if isinstance(domain, Weather) else None


def energy_score(members: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """Mean energy score of ``members [cases, m, *shape]``, see :class:`EnergyScore`."""
    root = torch.ones(()) if weights is None else weights.sqrt()
    scale = math.sqrt(math.prod(truth.shape[1:]))
    x = (members.double() * root).flatten(2).numpy() / scale
    y = (truth.double() * root).flatten(1).numpy() / scale
    values = [scoringrules.es_ensemble(y[row], x[row], m_axis=-2, v_axis=-1) for row in range(len(y))]
    return float(np.mean(values))


# Tables by variable ---------------------------------------------------------------------------------------------------


def verify(
    ensemble: xarray.Dataset, truth: xarray.Dataset, climatology: Climatology, threshold: float = 2.0
) -> xarray.Dataset:
    """The field's table of scores of ``ensemble`` against ``truth``: one number per score and variable.

    Area-weighted means over times and cells, in the variable's own units where they have any:

    ``rmse`` and ``acc`` of the ensemble mean (anomaly correlation, by case, then averaged), ``crps`` (standard) and
    ``crps_fair``, ``spread_skill`` (ratio, 1 is calibrated), ``outer_bins`` (share of the two outer ranks over that of
    a flat histogram), ``brier`` and ``brier_fair`` of the event "anomaly above ``threshold`` standard deviations",
    ``brier_skill`` against the climatological frequency in the truth, ``roc_area`` of the same event.

    Args:
        ensemble: variables ``(time, number, *grid)``, valid at time + step, or valid_time, or time where that is all.
        truth: variables ``(time, *grid)`` at the same valid times, in any order; it is paired by them.
        climatology: of these variables; gives anomalies and units.
        threshold: of the event, in climatological standard deviations.

    Returns:
        A data set of the axis ``score``; its variables are those of the climatology.

    Raises:
        AnydiffError: a valid time that only one of the two has, or that the truth has twice; other units or grid.
    """
    like = climatology.mean
    names = climatology.variables
    what = ("the ensemble", "the truth")
    ensemble = as_forecast(check_fields(ensemble, what[0], axes=("time", "number"), variables=names, like=like))
    truth = as_forecast(check_fields(truth, what[1], axes=("time",), variables=names, like=like), what[1])
    given, known = moments(ensemble, what[0]), moments(truth, what[1])
    valid = valid_times(ensemble, what[0])
    valid_truth = valid_times(truth, what[1])
    assert valid is not None
    assert valid_truth is not None
    check_calendar(calendar_of(valid), calendar_of(valid_truth), what)
    places = pair(given, known, what)
    check_complete(places, known, what)
    truth = truth.isel(time=places)
    day = np.broadcast_to(climatology.days(valid, what[0]), (len(given),)) - 1
    axes = ("time", *climatology.grid)
    weights = cell_weights(like)
    out = {}
    for number, name in enumerate(names):
        x = ensemble[name].transpose("time", "number", *climatology.grid).to_numpy().astype(np.float64)
        y = truth[name].transpose(*axes).to_numpy().astype(np.float64)
        mean, std = (each[day, number].astype(np.float64) for each in climatology.arrays)
        out[name] = _table(x, y, mean, std, weights, threshold)
    rows = list(next(iter(out.values())))
    arrays = {name: ("score", [table[row] for row in rows]) for name, table in out.items()}
    return xarray.Dataset(arrays, {"score": rows})


def _table(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    weights: NDArray[np.float64],
    threshold: float,
) -> dict[str, float]:
    members, truth, area = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(weights)
    histogram = scores.rank_histogram(members, truth)

    def average(values: NDArray[np.float64]) -> float:
        return float((values * weights).mean())

    event = (y - mean) / std > threshold
    forecast = (x - mean[:, None]) / std[:, None] > threshold
    count = x.shape[1]
    probability = forecast.mean(1)
    brier = average(np.square(probability - event))
    excess = average(probability * (1 - probability)) / max(count - 1, 1)
    rate = average(event.astype(np.float64))
    reference = rate * (1 - rate)
    return {
        "rmse": scores.root_mean_squared_error(members, truth, area),
        "acc": anomaly_correlation(x.mean(1) - mean, y - mean, weights),
        "crps": average(scoringrules.crps_ensemble(y, x, m_axis=1, estimator="nrg")),
        "crps_fair": average(scoringrules.crps_ensemble(y, x, m_axis=1, estimator="fair")),
        "spread_skill": scores.spread_skill_ratio(members, truth, area),
        "outer_bins": scores.outer_bins(histogram),
        "brier": brier,
        "brier_fair": brier - excess,
        "brier_skill": 1 - brier / reference if reference > 0 else math.nan,
        "roc_area": roc_area(event, probability),
    }


def anomaly_correlation(
    forecast: NDArray[np.float64], truth: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """ACC = Σ w f o / sqrt(Σ w f² Σ w o²) of anomalies ``[cases, *grid]``, averaged over cases."""
    axes = tuple(range(1, truth.ndim))
    cross = (weights * forecast * truth).sum(axes)
    norm = np.sqrt((weights * forecast**2).sum(axes) * (weights * truth**2).sum(axes))
    return float((cross / norm).mean())


def roc_area(event: NDArray[np.bool_], probability: NDArray[np.float64]) -> float:
    """Area under hit rate against false-alarm rate over all probability thresholds (trapezoids); NaN without events."""
    if not event.any() or event.all():
        return math.nan
    events = xarray.DataArray(event.ravel().astype(np.uint8), dims="entry")
    chances = xarray.DataArray(probability.ravel(), dims="entry")
    # One threshold between any two probabilities that occur, and one beyond each end.
    levels = np.unique(np.concatenate([probability.ravel(), [-1.0, 2.0]]))
    edges = np.concatenate([[-2.0], (levels[:-1] + levels[1:]) / 2, [3.0]])
    area = xskillscore.roc(events, chances, bin_edges=edges, return_results="area")
    return float(area)


def reliability(
    event: NDArray[np.bool_], probability: NDArray[np.float64], bins: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The reliability diagram: mean forecast probability, observed frequency and number of cases of each bin."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(probability.ravel(), edges) - 1, 0, bins - 1)
    number = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        forecast = np.bincount(place, probability.ravel(), minlength=bins) / number
        observed = np.bincount(place, event.ravel().astype(np.float64), minlength=bins) / number
    return forecast, observed, number


def power_spectrum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared amplitude ``[N // 2 + 1]`` of each zonal wave number of ``values [..., longitude]``.

    One-sided, so that the sum is the mean square of the field.
    """
    size = values.shape[-1]
    power: NDArray[np.float64] = (
        np.square(np.abs(np.fft.rfft(values, axis=-1) / size)).reshape(-1, size // 2 + 1).mean(0)
    )
    power[1 : (size + 1) // 2] *= 2
    return power
