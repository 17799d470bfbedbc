"""Baselines of every weather table: climatology, persistence, the seeds alone, the full physical ensemble.

Each gives states for rows of a condition laid out as ensembles are: row i is member i // n of case i % n.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning, permutation
from anydiff_weather.data import ForecastCases, Lorenz96Cases
from anydiff_weather.stored import held


def climatology(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """Past truths, drawn at random: the anomalies of other years, whatever the forecast says."""
    cases = forecast_cases(training_data)
    past = cases.truth if cases.truth is not None else cases.members[:, 0]
    return past[torch.from_numpy(past_numbers(len(past), count, seed))]


def past_numbers(past: int, count: int, seed: int) -> NDArray[np.int64]:
    """``count`` of the numbers of ``past`` cases at random, none twice before all have come."""
    rounds = -(-count // past)
    order = np.concatenate([permutation(seed, k, "weather/climatology", past) for k in range(rounds)])
    return order[:count].astype(np.int64)


def persistence(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The analysis of the base day, kept: one field for all members of a case.

    Raises:
        AnydiffError: the data have no analysis.
    """
    test = _test_cases(training_data)
    if test.analysis is None:
        raise AnydiffError(f"data set {test.name!r} has no analysis of the base day, so nothing can persist.")
    return test.analysis[_case_numbers(test, condition)[:count]]


def seeds_alone(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The seed members themselves, in turn; a score of them repeated is the score of them."""
    members = condition.given["members"][:count]
    member = _member_numbers(members) % members.shape[1]
    return members[torch.arange(len(members)), member]


def full_ensemble(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The physical ensemble that the seeds come from, in turn where more members are asked for than it has."""
    test = _test_cases(training_data)
    return _members_of(held(test.members), test, condition, count)


def perfect_ensemble(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """The full ensemble of the perfect system: as many runs of the true equations from the analysis's own errors.

    The truth is one more member of it, so no forecast made of the same analysis scores better; one made of a few of
    its members knows less, and stays behind.
    """
    test = _test_cases(training_data)
    return _members_of(held(Lorenz96Cases("test", "perfect", test.domain.seeds).members), test, condition, count)


def physical_ensemble(training_data: Dataset, condition: Conditioning, cases: int) -> Tensor:
    """All members of the physical ensemble of the first ``cases`` rows of the condition, ``[cases, m, *shape]``."""
    test = _test_cases(training_data)
    return test.members[_case_numbers(test, condition)[:cases]]


def _members_of(ensemble: Tensor, test: ForecastCases, condition: Conditioning, count: int) -> Tensor:
    case = _case_numbers(test, condition)[:count]
    member = _member_numbers(condition.given["members"][:count]) % ensemble.shape[1]
    return ensemble[case, member]


def forecast_cases(data: Dataset) -> ForecastCases:
    """``data`` as forecast cases.

    Raises:
        AnydiffError: it holds none.
    """
    if not isinstance(data, ForecastCases):
        raise AnydiffError(f"data set {data.name!r} holds no forecast cases; this baseline needs them.")
    return data


def _test_cases(data: Dataset) -> ForecastCases:
    """The test split of the same simulator."""
    cases = forecast_cases(data)
    if not isinstance(cases, Lorenz96Cases):
        raise AnydiffError(f"data set {cases.name!r} has no physical ensemble of its test cases at hand.")
    return Lorenz96Cases("test", cases.system, cases.domain.seeds)


def _keys(members: Tensor) -> list[bytes]:
    return [row.contiguous().numpy().tobytes() for row in members]


def _case_numbers(test: ForecastCases, condition: Conditioning) -> Tensor:
    """Which test case each row of the condition is, known by its seeds.

    Raises:
        AnydiffError: seeds of no test case.
    """
    known = {key: number for number, key in enumerate(_keys(test.members[:, : test.domain.seeds]))}
    try:
        return torch.tensor([known[key] for key in _keys(condition.given["members"])])
    except KeyError:
        raise AnydiffError("the seeds in the condition are those of no test case; ask for held-out cases.") from None


def _member_numbers(members: Tensor) -> Tensor:
    """How often the same seeds came before, for each row: the number of the member within its case."""
    seen: dict[bytes, int] = {}
    numbers = []
    for key in _keys(members):
        numbers.append(seen.get(key, 0))
        seen[key] = numbers[-1] + 1
    return torch.tensor(numbers)
