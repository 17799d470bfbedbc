"""Benchmark tasks on weather ensembles, frozen in ``tasks.lock.json``."""

from __future__ import annotations

from anydiff.tasks import Task, restoration_metrics

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


def assimilate() -> Task:
    """Fields from two seed members and observations at every fifth point: 32 cases with 8 members each."""
    module = "anydiff_weather.assimilation"
    return Task(
        name="weather/assimilate", version=1, recipe="weather/gee", samples=256, members=8, minimum_cases=16,
        help="fields from two seed members and every fifth point observed, 32 cases of 8 members",
        measured=f"{module}:every_fifth_point", metrics=restoration_metrics(),
        baselines={
            "seeds alone": f"{module}:seeds_alone",
            "seeds, ensemble Kalman": f"{module}:seeds_kalman",
            "full ensemble": f"{module}:full_ensemble",
            "full ensemble, ensemble Kalman": f"{module}:full_kalman",
        },
        informed=("full ensemble", "full ensemble, ensemble Kalman"),
    )  # fmt: skip


def gpp() -> Task:
    """Emulate and correct the biased ensemble of the simulator: 16 members for each of 64 cases."""
    return _ensembles("weather/gpp")
