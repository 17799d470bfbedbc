"""One recipe and seed of the study: what ``advise`` predicts, measured again from other noise with a finer limit.

``advise`` sees one noise, a limit of 160 calls, and five candidates. Here the same is measured by what it does not see:
another noise, a limit of twice the calls, and every setting of :data:`SOLVERS` x :data:`GRIDS` at the chosen budget.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from anydiff.advise import Advice, Bench, Judged, Trial, advise
from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline, load

LIMIT = 320
"""Calls of the measured limit: twice what ``advise`` takes."""
ASKED = 5
"""The budget that is asked about: at more calls the solver's share drowns in the interval of so few samples."""
OTHER_NOISE = 1000
"""What is added to the seed of ``advise`` for the noise of the measurement."""
SOLVERS = ("ddim", "heun", "edm", "dpm-solver++-2m", "dpm-solver++-3m", "unipc-2", "deis-2", "by-budget")
GRIDS = (None, "time", "karras")
WITHIN = 0.25
"""How far a prediction may be from what is measured, as a share of it."""
TIMES = 1.1
"""How many times the error of the best setting that of the chosen one may be."""


def study(name: str, seed: int, count: int) -> dict[str, Any]:
    """What is predicted, what is measured, and what every setting reaches, as one row of plain data.

    Raises:
        AnydiffError: the recipe has no weights, no metric, or cannot be advised with so few samples.
    """
    began = time.perf_counter()
    pipeline = load(name)
    advice = advise(pipeline, count, nfe=ASKED, seed=seed, batch_size=256)
    spent = time.perf_counter() - began
    bench = Bench(pipeline, count, seed + OTHER_NOISE, {"batch_size": 256})
    limit = bench.drawn(None, None, LIMIT)
    measured = bench.trial(limit, advice.asked.solver, None, ASKED, bench.drawn(None, None, ASKED))
    row = {
        "recipe": name, "seed": seed, "samples": advice.samples, "metric": advice.card.name,
        "unit": advice.card.unit, "cause": advice.cause, "calls": advice.calls, "advise seconds": spent,
        "predicted": advice.asked.share.value, "predicted half width": advice.asked.share.half_width,
        "measured": measured.share.value, "measured half width": measured.share.half_width,
        "predicted distance": advice.asked.distance, "measured distance": measured.distance,
        "network": advice.network.value, "sample": advice.sample.value, "ceiling": advice.ceiling,
        **_settings(bench, limit, advice),
    }  # fmt: skip
    row["seconds"] = time.perf_counter() - began
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _settings(bench: Bench, limit: Judged, advice: Advice) -> dict[str, Any]:
    """The chosen setting beside all solvers and grids at its budget, by the error against the ceiling."""
    chosen = advice.chosen
    if chosen is None:
        return {"chosen": None}
    tried: dict[str, Judged] = {}
    for solver, grid in _all(chosen, bench.stochastic):
        try:
            tried[_title(solver, grid)] = bench.drawn(solver, grid, chosen.nfe)
        except AnydiffError:  # a solver that does not travel this path, or needs more calls
            continue
    errors = {name: bench.sign * (found.value - advice.ceiling) for name, found in tried.items()}
    distances = {name: bench.distance(found.states, limit.states) for name, found in tried.items()}
    title = _title(chosen.solver, chosen.grid)
    best = min(errors, key=lambda each: errors[each])
    nearest = min(distances, key=lambda each: distances[each])
    behind = bench.trial(tried[best], chosen.solver, chosen.grid, chosen.nfe, tried[title]).share
    return {
        "chosen": title, "chosen calls": chosen.nfe, "settings": len(tried), "chosen error": errors[title],
        "best": best, "best error": errors[best], "behind": behind.value, "behind half width": behind.half_width,
        "chosen distance": distances[title], "nearest": nearest, "nearest distance": distances[nearest],
    }  # fmt: skip


def _all(chosen: Trial, stochastic: bool) -> Iterator[tuple[str, str | None]]:
    """The chosen setting and all others; of a recipe that draws noise on its way only its own."""
    seen = [(chosen.solver, chosen.grid)]
    if not stochastic:
        seen += [(solver, grid) for solver in SOLVERS for grid in GRIDS]
    yield from dict.fromkeys(seen)


def _title(solver: str, grid: str | None) -> str:
    return solver + (f", {grid}" if grid else "")


def planted(name: str, seed: int, count: int, trained: Callable[[str], Pipeline]) -> list[dict[str, Any]]:
    """Three faults of one recipe, and what ``advise`` calls each.

    Args:
        name: of the recipe.
        seed: of the noise.
        count: samples to judge.
        trained: a model of a recipe that was trained a tenth as long.
    """
    pipeline = load(name)
    first = pipeline.recipe.sampling.solver.model_copy(update={"name": "ddim", "options": {}})
    sampling = pipeline.recipe.sampling.model_copy(update={"solver": first})
    coarse = dataclasses.replace(pipeline, recipe=pipeline.recipe.model_copy(update={"sampling": sampling}))
    trials: list[tuple[str, str, Callable[[], Advice]]] = [
        ("a network trained a tenth as long", "network", lambda: advise(trained(name), count, seed=seed)),
        ("a first-order solver with 5 calls", "solver", lambda: advise(coarse, count, nfe=5, seed=seed)),
        ("16 samples", "sample", lambda: advise(pipeline, 16, seed=seed)),
    ]
    rows = []
    for fault, truth, ask in trials:
        row: dict[str, Any] = {"recipe": name, "seed": seed, "fault": fault, "truth": truth}
        try:
            found = ask()
            row |= {
                "cause": found.cause, "sentence": found.sentence, "solver": found.asked.share.value,
                "solver half width": found.asked.share.half_width, "network": found.network.value,
                "network half width": found.network.half_width, "sample": found.sample.value,
                "samples": found.samples,
            }  # fmt: skip
        except AnydiffError as error:
            row |= {"cause": "refused", "sentence": str(error)}
        rows.append(row)
    return rows
