"""SEEDS: many ensemble members from a few seed forecasts, and its training pairs.

Li, Carver, Lopez-Gomez, Sha & Anderson, "Generative emulation of weather forecast ensembles with diffusion models",
Science Advances 2024, doi:10.1126/sciadv.adk4489 (arXiv:2306.14066). A conditional diffusion model draws members of
the forecast ensemble of a day given K seed members and the climatology. In *generative emulation* (GEE) the labels are
other members of the same ensemble; in *generative post-processing* (GPP) they are a mixture of members and of the
truth, whose share is the knob between variance and bias.

A generated ensemble cannot hold more information than its seeds, so it must be wider than the true one.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
import xarray
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains import LabelledArray
from anydiff.errors import AnydiffError, natural_number
from anydiff.pipeline import Pipeline
from anydiff.states import permutation
from anydiff_weather.domain import Weather
from anydiff_weather.ensembles import assembled, forecast_cases
from anydiff_weather.forecasts import as_forecast, forecast_conditions

TRUTH = -1
"""The label that is the truth, where others are numbers of members."""


def training_pairs(
    members: int, seeds: int, member_labels: int, truth_labels: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every choice of seeds and label among ``members``: seeds ``[P, K]`` and label ``[P]`` (:data:`TRUTH`: the truth).

    For each set of K seeds there are ``member_labels`` labels, the first of the other members, and the truth
    ``truth_labels`` times. SEEDS-GEE takes 2 seeds and 3 labels of 5 members; SEEDS-GPP 3 members and the truth 4
    times.

    Raises:
        AnydiffError: there are too few members, or there is no label at all.
    """
    natural_number("seeds", seeds)
    natural_number("member_labels", member_labels, minimum=0)
    natural_number("truth_labels", truth_labels, minimum=0)
    if members < seeds + member_labels:
        raise AnydiffError(
            f"the forecast has {members} members, but {seeds} seeds and {member_labels} labels need "
            f"{seeds + member_labels}; lower one of them."
        )
    if member_labels + truth_labels == 0:
        raise AnydiffError("member_labels and truth_labels are both 0, so there is nothing to learn; raise one.")
    pairs = []
    for chosen in itertools.combinations(range(members), seeds):
        others = [member for member in range(members) if member not in chosen][:member_labels]
        pairs += [(chosen, label) for label in [*others, *[TRUTH] * truth_labels]]
    return np.array([chosen for chosen, _ in pairs]), np.array([label for _, label in pairs])


def emulate(
    pipeline: Pipeline,
    forecast: xarray.Dataset,
    members: int = 64,
    *,
    seed: int = 0,
    rounds: int = 1,
    **options: Any,
) -> xarray.Dataset:
    """A forecast with a few members in, one with ``members`` generated members out: same names, units and times.

    Args:
        pipeline: a trained one, ``load("weather/gee")``.
        forecast: variables of the pipeline's climatology with the axes number and time; a coordinate valid_time or
            step.
        members: how many to generate per time.
        seed: whole number.
        rounds: the members are drawn in so many parts, each from other seeds among the forecast's members (as in the
            paper, 32 rounds of 16); 1 takes the first K members for all.
        options: as for :meth:`Pipeline.sample`.

    Raises:
        AnydiffError: the forecast lacks something; the sentence says what.
    """
    domain = pipeline.domain
    if not isinstance(domain, Weather):
        raise AnydiffError(f"the pipeline's domain is {domain.name!r}, but emulate needs one of weather fields.")
    forecast = as_forecast(forecast)
    rounds = min(natural_number("rounds", rounds), natural_number("members", members))
    parts: list[dict[str, LabelledArray]] = []
    for number, block in enumerate(np.array_split(np.arange(members), rounds)):
        chosen = None
        if rounds > 1:
            chosen = np.sort(
                permutation(seed, number, "weather/seed members", forecast.sizes["number"])[: domain.seeds]
            )
        condition = forecast_conditions(domain, forecast, chosen)
        samples = pipeline.ensemble_set(block.tolist(), condition, seed=seed, **options)
        parts.append(domain.arrays(samples.states, samples.condition))
    cases = forecast_cases(forecast[list(domain.variables)])
    fields = {}
    for name, array in parts[0].items():
        rows = np.concatenate([part[name].values for part in parts])
        fields[name] = (array.dimensions, rows.reshape(members, len(cases), *rows.shape[1:]))
    grid = {name: value for name, value in domain.climatology.mean.coords.items() if "dayofyear" not in value.dims}
    return assembled(fields, grid, cases, range(members))


def as_tensor(values: NDArray[Any]) -> Tensor:
    """A float32 tensor of ``values``."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
