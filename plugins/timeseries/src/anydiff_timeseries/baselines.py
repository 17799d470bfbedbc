"""Forecasts without a network, for the tables: the last season repeated, and the best linear forecast.

Each is ``f(training_data, condition, count, seed) -> states``, one row per row of the condition ``observed``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning, standard_normal
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.scaling import level, relative, unit


def seasonal_naive(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The last season of the context, repeated; a point forecast. A gap takes the season before, else the level."""
    domain = cast(TimeSeries, training_data.domain)
    return _repeated(condition.given["observed"], domain, domain.season)


def weekly_naive(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """As :func:`seasonal_naive`, with a week of hours as the season."""
    return _repeated(condition.given["observed"], cast(TimeSeries, training_data.domain), 168)


def linear_gaussian(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """Samples of the Gaussian with the training windows' mean and covariance, given what was observed, gaps and all.

    Its mean is the best linear forecast from the whole context.
    """
    domain = cast(TimeSeries, training_data.domain)
    windows, _ = training_data.batch(range(len(training_data)))
    windows = windows[:, 0].double()
    mean, covariance = windows.mean(0), windows.T.cov() + 1e-4 * torch.eye(domain.length, dtype=torch.float64)
    observed = relative(condition.given["observed"].double())
    noise = torch.from_numpy(standard_normal(seed, range(len(observed)), 0, "timeseries/baseline", (domain.length,)))
    states = torch.empty(len(observed), domain.length, dtype=torch.float64)
    masks, places = torch.unique(observed[:, 1] > 0, dim=0, return_inverse=True)
    for number, seen in enumerate(masks):
        rows = places == number
        states[rows] = gaussian_given(mean, covariance, seen, observed[rows, 0], noise[rows])
    return states.float()[:, None]


def gaussian_given(mean: Tensor, covariance: Tensor, seen: Tensor, values: Tensor, noise: Tensor) -> Tensor:
    """Draws ``[B, L]`` of N(mean, covariance) given the entries ``seen [L]`` of ``values [B, L]``."""
    past, cross, future = (covariance[a][:, b] for a, b in ((seen, seen), (~seen, seen), (~seen, ~seen)))
    gain = torch.linalg.solve(past, cross.T).T
    rest = future - gain @ cross.T
    root = torch.linalg.cholesky((rest + rest.T) / 2)
    out = values.clone()
    out[:, ~seen] = mean[~seen] + (values[:, seen] - mean[seen]) @ gain.T + noise[:, ~seen] @ root.T
    return out


def _repeated(observed: Tensor, domain: TimeSeries, season: int) -> Tensor:
    if season > domain.context:
        raise AnydiffError(
            f"a season of {season} steps cannot be repeated from a context of {domain.context}; choose a longer one."
        )
    scale = level(observed)
    values, mask = observed[:, 0, : domain.context], observed[:, 1, : domain.context] > 0
    last = scale[:, None].expand(-1, season).clone()
    for begin in range(domain.context % season, domain.context, season):
        block = slice(begin, begin + season)
        last = torch.where(mask[:, block], values[:, block], last)
    ahead = torch.arange(domain.prediction) % season
    past = torch.where(mask, values, scale[:, None])
    return unit(observed).encode(torch.cat([past, last[:, ahead]], dim=1))[:, None]
