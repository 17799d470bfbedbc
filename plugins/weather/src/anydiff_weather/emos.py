"""Ensemble model output statistics: the classical post-processing of a forecast, as a free baseline of every table.

Gneiting, Raftery, Westveld and Goldman 2005, "Calibrated probabilistic forecasting using ensemble model output
statistics and minimum CRPS estimation", Monthly Weather Review 133: the truth is N(a + b m, c² + d² s²), with m the
mean and s² the variance of the members, which are exchangeable. The four numbers of a variable minimise the mean CRPS
over the training cases and all cells. Where a variable has a floor (no rain), the law is the normal one with all that
is below moved onto the floor: left-censored, with the CRPS that goes with that.

The laws are of single cells. Draws of a field get the dependence of past truths: member k has at each cell the normal
score that one past field, drawn at random, has there among all past ones (the Schaake shuffle's template).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri
from torch import Tensor

from anydiff.data import Dataset
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning
from anydiff_weather.baselines import forecast_cases, past_numbers
from anydiff_weather.stored import held

Array = NDArray[np.float64]


def normal_crps(mean: Array, deviation: Array, truth: Array, floor: float | None = None) -> Array:
    """CRPS of N(mean, deviation²), or of that law censored on the left at ``floor``, in closed form.

    Args:
        mean: of the law before censoring.
        deviation: of the law before censoring, positive.
        truth: what came; at least ``floor``.
        floor: None for no censoring. Then ∫ F² below it, which the censored law has not, is taken off.
    """
    z = (truth - mean) / deviation
    score = z * (2 * ndtr(z) - 1) + 2 * _density(z) - 1 / math.sqrt(math.pi)
    if floor is not None:
        low = (floor - mean) / deviation
        below = low * ndtr(low) ** 2 + 2 * _density(low) * ndtr(low) - ndtr(math.sqrt(2) * low) / math.sqrt(math.pi)
        score = score - below
    crps: Array = deviation * score
    return crps


@dataclass(frozen=True)
class Emos:
    """A fitted law; see the module.

    Attributes:
        coefficients: a, b, c, d of each variable ``[variables, 4]``.
        floor: of all variables, in units of the states, or None.
    """

    coefficients: Array
    floor: float | None = None

    @classmethod
    def fit(cls, members: Array, truth: Array, floor: float | None = None) -> Emos:
        """The coefficients of least mean CRPS.

        Args:
            members: ``[cases, K, variables, *grid]``, K at least 2.
            truth: ``[cases, variables, *grid]``.
            floor: see the class.

        Raises:
            AnydiffError: fewer than two members, which have no variance.
        """
        if members.shape[1] < 2:
            raise AnydiffError(f"EMOS needs the variance of at least 2 members, but there is {members.shape[1]}.")
        mean, variance = members.mean(1), members.var(1, ddof=1)
        rows = []
        for number in range(truth.shape[1]):
            m, v, y = (part[:, number].ravel() for part in (mean, variance, truth))

            def loss(w: Array, m: Array = m, v: Array = v, y: Array = y) -> float:
                deviation = np.sqrt(w[2] ** 2 + w[3] ** 2 * v + 1e-12)
                return float(normal_crps(w[0] + w[1] * m, deviation, y, floor).mean())

            slope, offset = np.polyfit(m, y, 1)
            spread = float(np.std(y - offset - slope * m))
            start = np.array([offset, slope, 0.7 * spread, 0.7 * spread / math.sqrt(v.mean() + 1e-12)])
            rows.append(minimize(loss, start, method="L-BFGS-B").x)
        return cls(np.stack(rows), floor)

    def law(self, members: Array) -> tuple[Array, Array]:
        """Mean and deviation ``[cases, variables, *grid]`` before censoring, given ``members [cases, K, ...]``."""
        a, b, c, d = (column.reshape(-1, *[1] * (members.ndim - 3)) for column in self.coefficients.T)
        variance = c**2 + d**2 * members.var(1, ddof=1)
        return a + b * members.mean(1), np.sqrt(variance + 1e-12)

    def draw(self, members: Array, scores: Array) -> Array:
        """States from standard normal ``scores [cases, variables, *grid]``."""
        mean, deviation = self.law(members)
        states: Array = mean + deviation * scores
        return states if self.floor is None else np.maximum(states, self.floor)


def emos(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """EMOS of the seed members, fitted on the training cases with the truth as the label.

    Raises:
        AnydiffError: the data hold no forecast cases, or no truth to fit to.
    """
    cases = forecast_cases(training_data)
    if cases.truth is None:
        raise AnydiffError(f"data set {cases.name!r} has no truth, so EMOS has nothing to be fitted to.")
    seeds = cases.members[:, : cases.domain.seeds].double().numpy()
    truth = held(cases.truth).double().numpy()
    law = Emos.fit(seeds, truth, cases.domain.floor)
    rank = truth.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    scores = ndtri((rank + 0.5) / len(truth))[past_numbers(len(truth), count, seed)]
    drawn = law.draw(condition.given["members"][:count].double().numpy(), scores)
    return torch.from_numpy(drawn).float()


def _density(z: Array) -> Array:
    density: Array = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return density
