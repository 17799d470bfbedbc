"""Benchmark tasks on weather ensembles, frozen in ``tasks.lock.json``."""

from __future__ import annotations

from anydiff.tasks import Task

BASELINES = {
    "climatology": "anydiff_weather.baselines:climatology",
    "persistence": "anydiff_weather.baselines:persistence",
    "seeds alone": "anydiff_weather.baselines:seeds_alone",
    "full ensemble": "anydiff_weather.baselines:full_ensemble",
}


def gee() -> Task:
    """Emulate the perfect ensemble of the simulator: 16 members for each of 64 cases."""
    return Task(name="weather/gee", version=1, recipe="weather/gee", samples=1024, members=16, baselines=BASELINES)


def gpp() -> Task:
    """Emulate and correct the biased ensemble of the simulator: 16 members for each of 64 cases."""
    return Task(name="weather/gpp", version=1, recipe="weather/gpp", samples=1024, members=16, baselines=BASELINES)
