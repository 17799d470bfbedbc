"""Baselines of every weather table: climatology, persistence, the seeds alone, the full physical ensemble.

Each gives states for rows of a condition laid out as ensembles are: row i is member i // n of case i % n.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning, permutation
from anydiff_weather.data import ForecastCases, Lorenz96Cases


def climatology(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> Tensor:
    """Past truths, drawn at random: the anomalies of other years, whatever the forecast says."""
    cases = _cases(training_data)
    past = cases.truth if cases.truth is not None else cases.members[:, 0]
    rounds = -(-count // len(past))
    order = np.concatenate([permutation(seed, k, "weather/climatology", len(past)) for k in range(rounds)])
    return past[torch.from_numpy(order[:count])]


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
    case = _case_numbers(test, condition)[:count]
    member = _member_numbers(condition.given["members"][:count]) % test.members.shape[1]
    return test.members[case, member]


def _cases(data: Dataset) -> ForecastCases:
    if not isinstance(data, ForecastCases):
        raise AnydiffError(f"data set {data.name!r} holds no forecast cases; this baseline needs them.")
    return data


def _test_cases(data: Dataset) -> ForecastCases:
    """The test split of the same simulator."""
    cases = _cases(data)
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
