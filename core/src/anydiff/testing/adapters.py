"""Adapters: levels, predictions and times of another library, by the library's own word for a small network."""

from __future__ import annotations

import itertools
import math

import torch

from anydiff.adapters import Adapter, Example
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

BETWEEN = 64
"""Levels that are looked at between two of the example's."""


def _example(plugin: Subject, entry: Entry) -> tuple[NetworkDenoiser, GaussianPath, Example]:
    adapter = plugin.build(entry)
    require(
        isinstance(adapter, Adapter), f"it builds a {type(adapter).__name__}, which is no anydiff.adapters.Adapter."
    )
    try:
        example: Example = adapter.example()
    except AnydiffError as error:
        if "pip install" in str(error):
            skip(str(error))
        raise
    rows = len(example.states)
    fits = rows >= 2 and rows == len(example.times) == len(example.levels)
    require(fits, "its example needs two states at least, and a time and a level for each.")
    denoiser = adapter.wrap(example.network, example.schedule, **example.options)
    require(isinstance(denoiser, NetworkDenoiser), f"wrap gives a {type(denoiser).__name__}, not a NetworkDenoiser.")
    return denoiser, denoiser.gaussian_path, example


def _time(path: GaussianPath, level: tuple[float, float]) -> float:
    return path.time(math.log(level[0] / level[1]))


@check("adapter.levels", "adapters", optional=True)
def levels(plugin: Subject, entry: Entry) -> None:
    """At the library's times the path has the library's α and σ, and the network is told these times."""
    _, path, example = _example(plugin, entry)
    for time, level in zip(example.times, example.levels, strict=True):
        t = _time(path, level)
        found = (path.alpha(t), path.sigma(t))
        off = max(abs(a - b) / max(b, 1e-3) for a, b in zip(found, level, strict=True))
        require(off < 1e-4, f"at the time {time:g} the library has (α, σ) = {level}, but the path has {found}.")
        told = float(path.told(torch.tensor([t], dtype=torch.float64))[0])
        require(abs(told - time) <= 1e-3 * max(1.0, abs(time)), f"at the time {time:g} the network is told {told:g}.")


@check("adapter.agrees", "adapters", optional=True)
def agrees(plugin: Subject, entry: Entry) -> None:
    """Its data prediction is the library's own, to 1e-4 of its size."""
    denoiser, path, example = _example(plugin, entry)
    for row, (time, level) in enumerate(zip(example.times, example.levels, strict=True)):
        x = example.states[row : row + 1]
        with torch.no_grad():
            found = denoiser(x, _time(path, level), example.condition.rows([row]))
            wanted = example.data(x, time)
        size = float(wanted.abs().max().clamp_min(1.0))
        off = float((found - wanted).abs().max())
        require(off <= 1e-4 * size, f"at the time {time:g} its prediction is {off:.3g} off the library's ({size:.3g}).")


@check("adapter.between", "adapters", optional=True)
def between(plugin: Subject, entry: Entry) -> None:
    """Between two levels the network is told times between: none is rounded to one that it knows."""
    _, path, example = _example(plugin, entry)
    levels = [math.log(alpha / sigma) for alpha, sigma in example.levels]
    for first, second in itertools.pairwise(levels):
        line = torch.linspace(first, second, BETWEEN, dtype=torch.float64)
        told = path.told(path.time(line))
        steps = told.diff()
        one_way = bool((steps > 0).all()) or bool((steps < 0).all())
        require(one_way, f"between two levels it is told {len(set(told.tolist()))} times for {BETWEEN} noise levels.")
