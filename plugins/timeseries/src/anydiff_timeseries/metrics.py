"""Metrics of forecasts, in the series' own units on the prediction alone, and of unconditional windows.

The first are those of GluonTS (its ``Evaluator`` gives the same numbers for the same forecasts): sample i is member
i // n of case i % n, and the reference's rows are the cases. The paper calls the mean weighted quantile loss CRPS.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff.metrics import CoverageError, EnsembleMetric, Metric, MetricCard, SampleSet, crps
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.scaling import known_values

LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))
"""The quantile levels of GluonTS's mean weighted quantile loss."""


def forecast_quantile(members: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """The q-quantile of ``members [cases, m, H]`` as GluonTS's ``SampleForecast`` takes it: the sorted member
    number round((m - 1) q), ``[cases, H]``."""
    ordered = np.sort(members, axis=1)
    return ordered[:, int(np.round((members.shape[1] - 1) * q))]


def mean_weighted_quantile_loss(members: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Mean over q = 0.1, ..., 0.9 of 2 Σ |(ŷ_q - y)(1{y <= ŷ_q} - q)| / Σ |y|: sums over all cases and steps.

    Args:
        members: ``[cases, m, H]``.
        truth: ``[cases, H]``.
    """
    losses = []
    for q in LEVELS:
        predicted = forecast_quantile(members, q)
        losses.append(2 * np.abs((predicted - truth) * ((truth <= predicted) - q)).sum())
    return float(np.mean(losses) / _total(truth))


def mean_absolute_scaled_error(
    members: NDArray[np.float64], truth: NDArray[np.float64], past: NDArray[np.float64], season: int
) -> float:
    """Mean over the cases of mean |y - median| / mean |past_t - past_{t-season}|, gaps of ``past [cases, C]`` skipped.

    Raises:
        AnydiffError: a past that repeats its season exactly, constant ones among them: the error has no scale.
    """
    change = np.abs(past[:, season:] - past[:, :-season])
    counted = ~np.isnan(change)
    scale = np.nansum(change, axis=1) / np.maximum(counted.sum(axis=1), 1)
    if not (scale > 0).all():
        raise AnydiffError(
            f"case {int((scale == 0).argmax())} repeats its season of {season} steps exactly, so MASE is undefined; "
            "leave such cases out or choose another metric."
        )
    return float((np.abs(truth - forecast_quantile(members, 0.5)).mean(axis=1) / scale).mean())


def _total(truth: NDArray[np.float64]) -> float:
    total = float(np.abs(truth).sum())
    if total == 0:
        raise AnydiffError("the truth is zero everywhere, so a loss relative to its sum is undefined.")
    return total


class ForecastMetric(EnsembleMetric):
    """A metric of forecasts: members and truth in the series' own units, the prediction alone."""

    needs = ("observed",)

    def values(self, samples: SampleSet) -> Tensor:
        """The predictions ``[N, H]`` in the units of ``observed``."""
        domain = _domain(samples.domain)
        return domain.values(samples.states, samples.condition)[:, domain.context :]


class MeanWeightedQuantileLoss(ForecastMetric):
    """See :func:`mean_weighted_quantile_loss`."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; relative to the sum of |y|."""
        return MetricCard(
            "timeseries/mean-wql", "lower", "1", (0.0, math.inf), 0.0, 1, version="1: GluonTS, q = 0.1 to 0.9"
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """Over all cases at once."""
        return mean_weighted_quantile_loss(members.numpy(), truth.numpy())


class RelativeCRPS(ForecastMetric):
    """Σ CRPS / Σ |y|, standard estimator: the mean weighted quantile loss over all levels instead of nine."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; relative to the sum of |y|."""
        return MetricCard(
            "timeseries/crps", "lower", "1", (0.0, math.inf), 0.0, 1, version="1: standard estimator, sums over cases"
        )

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """Over all cases at once."""
        return float(crps(members, truth).sum()) / _total(truth.numpy())


class ScaledError(ForecastMetric):
    """MASE of the median, with the seasonal difference of the context as the scale."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; 1 is the error of the seasonal naive forecast within the context."""
        return MetricCard(
            "timeseries/mase", "lower", "1", (0.0, math.inf), 0.0, 1, version="1: median, context's season"
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """As every metric of forecasts, with the cases' own pasts."""
        self.check(samples, reference)
        domain = _domain(reference.domain)
        observed = known_values(reference.condition.given["observed"].double())[:, :, : domain.context]
        self._past = torch.where(observed[:, 1] > 0, observed[:, 0], torch.nan).numpy()
        self._season = domain.season
        return super().compute(samples, reference)

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """See :func:`mean_absolute_scaled_error`."""
        return mean_absolute_scaled_error(members.numpy(), truth.numpy(), self._past[: len(truth)], self._season)


class ForecastCoverage(ForecastMetric, CoverageError):
    """|coverage - level| of the predictions' central interval."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; names the level."""
        version = f"1: level {self.level:g}, Weibull quantiles, prediction alone"
        return MetricCard("timeseries/coverage-error", "lower", "1", (0.0, 1.0), 0.0, 1, version=version)


class LinearPredictiveScore(Metric):
    """Mean weighted quantile loss on the real windows of a ridge regression fitted on the generated ones.

    The better the generated windows stand in for real ones as training data, the lower; that of real windows is the
    mark to reach, not 0 (Kollovieh et al. 2023, section 4.3). Context -> prediction, in units of the level.

    Args:
        penalty: of the ridge regression, per window.
    """

    def __init__(self, penalty: float = 1e-3) -> None:
        if not penalty > 0:
            raise AnydiffError(f"penalty is {penalty}, but must be positive.")
        self.penalty = penalty

    @property
    def card(self) -> MetricCard:
        """Lower is better; relative to the sum of |y|."""
        return MetricCard(
            "timeseries/lps",
            "lower",
            "1",
            (0.0, math.inf),
            0.0,
            16,
            version=f"1: ridge {self.penalty:g}, point forecast",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Fit on ``samples``, judge on ``reference``; conditions play no part."""
        self.check(samples, reference)
        domain = _domain(samples.domain)
        past, future = self._split(samples, domain)
        centre, mean = past.mean(0), future.mean(0)
        deviation = past - centre
        ridge = deviation.T @ deviation / len(past) + self.penalty * torch.eye(domain.context, dtype=torch.float64)
        weights = torch.linalg.solve(ridge, deviation.T @ (future - mean) / len(past))
        real_past, truth = self._split(reference, domain)
        predicted = mean + (real_past - centre) @ weights
        return mean_weighted_quantile_loss(predicted[:, None].numpy(), truth.numpy())

    @staticmethod
    def _split(samples: SampleSet, domain: TimeSeries) -> tuple[Tensor, Tensor]:
        windows = samples.states[:, 0].to(torch.float64)
        return windows[:, : domain.context], windows[:, domain.context :]


class AutocorrelationDistance(Metric):
    """Root mean square over the lags 1 to L/2 of the difference of the mean autocorrelations of two sets of windows."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return MetricCard(
            "timeseries/autocorrelation", "lower", "1", (0.0, 2.0), 0.0, 2, version="1: biased, lags 1 to L/2"
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Windows as they are, conditions play no part."""
        self.check(samples, reference)
        one, two = (self._mean(each.states[:, 0].to(torch.float64)) for each in (samples, reference))
        return float((one - two).square().mean().sqrt())

    @staticmethod
    def _mean(windows: Tensor) -> Tensor:
        length = windows.shape[1]
        centred = windows - windows.mean(1, keepdim=True)
        spectrum = torch.fft.rfft(centred, n=2 * length).abs().square()
        covariance = torch.fft.irfft(spectrum, n=2 * length)[:, : length // 2 + 1]
        # A constant window has no autocorrelation; it counts as white.
        variance = covariance[:, :1].clamp_min(1e-300)
        mean: Tensor = (covariance[:, 1:] / variance).mean(0)
        return mean


def _domain(domain: Domain) -> TimeSeries:
    if not isinstance(domain, TimeSeries):
        raise AnydiffError(f"this metric is for time series, but the samples are of the domain {domain.name!r}.")
    return domain
