"""Which members of a forecast ensemble have the highest mean of a region? Guided by that mean, not picked by luck.

Try `anydiff optimise weather/gee --reward examples/weather_highest_mean.py:regional_mean --gain 1 --cases 2
--members 16 --out highest.nc`, or `anydiff --plugins-dir examples weather_highest_mean` for a comparison.
"""

import torch

from anydiff import hookimpl, load

LONGITUDES = slice(4, 12)  # 36 to 99 degrees east; the grid has 40 points, 9 degrees apart


@hookimpl
def register_commands(register):
    register("weather_highest_mean", "Members with the highest regional mean, compared.", "weather_highest_mean:table")


def regional_mean(values):
    """Mean of the first variable over the region, in its units: [B, variables, latitude, longitude] -> [B]."""
    return values[:, 0, :, LONGITUDES].flatten(1).mean(1)


def compare(members=16, cases=2, rounds=4, gain=1.0, **options):
    """(Regional mean, mean square step along the circle) of members as they come, the best of many, and optimised."""
    pipeline = load("weather/gee")
    asked = {"condition": pipeline.reference(cases).asked(cases), "cases": cases, **options}
    many = pipeline.sample_set(members * cases * (rounds + 1), **asked)  # what the rounds draw in all
    found = pipeline.optimise(regional_mean, members * cases, rounds=rounds, gain=gain, **asked)
    values = pipeline.domain.in_units(many.states, many.condition)
    means = regional_mean(values)
    best = [case + cases * means[case::cases].topk(members).indices for case in range(cases)]
    optimised = pipeline.domain.in_units(found.samples.states, found.samples.condition)
    rows = {"plain": values[: members * cases], "picked": values[torch.cat(best)], "optimised": optimised}
    return {
        name: (float(regional_mean(each).mean()), float(each.diff(dim=-1).square().mean()))
        for name, each in rows.items()
    }


def table(members: int = 16, cases: int = 2, rounds: int = 4, gain: float = 1.0):
    """Compare members as they come, the best of as many as the rounds draw, and optimised ones."""
    for name, (mean, step) in compare(members, cases, rounds, gain).items():
        print(f"{name:10} regional mean {mean:6.2f}   mean square step {step:6.2f}")
