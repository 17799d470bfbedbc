"""Benchmark tasks on weather ensembles, frozen in ``tasks.lock.json``."""

from __future__ import annotations

from anydiff.tasks import Task

BASELINES = {
    "climatology": "anydiff_weather.baselines:climatology",
    "persistence": "anydiff_weather.baselines:persistence",
    "seeds alone": "anydiff_weather.baselines:seeds_alone",
    "EMOS": "anydiff_weather.emos:emos",
    "full ensemble": "anydiff_weather.baselines:full_ensemble",
    "full perfect ensemble": "anydiff_weather.baselines:perfect_ensemble",
}
"""The last is the ceiling: what the simulator itself knows of the truth, see docs/domains/weather.md. The one before is
what a model stands in for, at the cost of running the simulator for every member; the others are free."""


def _ensembles(name: str) -> Task:
    return Task(
        name=name, version=2, recipe=name, samples=1024, members=16, minimum_cases=32, baselines={**BASELINES},
        ceiling="full perfect ensemble", informed=("full ensemble",),
    )  # fmt: skip


def gee() -> Task:
    """Emulate the perfect ensemble of the simulator: 16 members for each of 64 cases."""
    return _ensembles("weather/gee")


def gpp() -> Task:
    """Emulate and correct the biased ensemble of the simulator: 16 members for each of 64 cases."""
    return _ensembles("weather/gpp")
