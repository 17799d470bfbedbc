"""S³'s searched schedules against the best of the known solvers of its space, and of the whole library."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import torch
from torch import Tensor

from anydiff.calibration import S3, Setting, Trials, calibrate, median_distance, plan_of_entry
from anydiff.denoisers import Denoiser
from anydiff.paths import time_grid
from anydiff.samplers import SampleRequest
from anydiff.solvers import USF, Plan, Record, build_plan, compile_plan, execute
from anydiff.states import StateSpec
from anydiff_benchmarks.claims.base import Claim, Verdict
from anydiff_benchmarks.claims.dpm_solver_v3 import GRIDS, UNSEARCHED, built
from anydiff_benchmarks.peers.targets import PATH, target

CLAIM = Claim(
    slug="usf_s3",
    paper="Liu et al. 2024, A unified sampling framework for solver searching, ICLR 2024, arXiv:2312.07243",
    says="Decisions searched for each step (time, prediction, order, derivatives, corrector) halve the calls: CIFAR-10 "
    "FID 2.69 at 10 and 6.86 at 5 calls.",
    check="400 mutations from the best 15, begun from all known solvers, on 128 noises, mixtures in 16 and 64 "
    "dimensions with exact score, 5 calls; median distance from the exact end over 512 fresh noises, over that of the "
    "best of 36 known schedules (three grids, orders 1 to 3, data and noise, with and without corrector; chosen on "
    "the search's noises too); root mean squares beside; control: the best of 36 random schedules; and the least of "
    "forty choices of solver and grid that need no search.",
    threshold="Mean ratio over the seeds at most 0.85 on both; fresh over search noises at most 1.8 (ratio of "
    "distances); the random schedules above 1.",
    seeds=(100, 101, 102, 103, 104),
    minutes=3,
    files=("anydiff/solvers/usf.py", "anydiff/calibration/s3.py"),
    recipes=("images/fashion",),
)
NAMES, CALLS, SEARCHED, FRESH = ("G16", "G64"), 5, 128, 512


def known() -> list[Plan]:
    """The 36 schedules of the sheet."""
    made = []
    for grid, order, kind, corrector in itertools.product(
        ("log-snr", "time", "quadratic"), (1, 2, 3), ("noise", "data"), ("pseudo", "none")
    ):
        records = (Record(kind, min(order, i + 1, CALLS - i), corrector=corrector) for i in range(CALLS))
        made.append(build_plan(USF(tuple(records)), PATH, time_grid(PATH, CALLS, grid)))
    return made


def randoms(seed: int) -> list[Plan]:
    """As many schedules drawn at random from the same space."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(36):
        records = tuple(
            Record(str(rng.choice(["data", "noise", "velocity"])), int(rng.integers(1, min(4, i + 1) + 1)),
                   relax=float(rng.normal(0, 0.03)), corrector=str(rng.choice(["none", "pseudo"])))
            for i in range(CALLS)
        )  # fmt: skip
        inner = np.sort(rng.uniform(PATH.log_snr(1.0), PATH.log_snr(PATH.t_end), CALLS - 1))
        times = [PATH.t_start, *(PATH.time(float(v)) for v in inner), PATH.t_end]
        made.append(build_plan(USF(records), PATH, times))
    return made


def measure(seed: int) -> dict[str, float]:
    """Distances of the searched, known, random and best unsearched schedules on fresh noises."""
    numbers: dict[str, float] = {}
    for name in NAMES:
        oracle, size = target(name).oracle, target(name).dimension
        method = S3(objective="median", seed=seed)
        setting = Setting(nfe=(CALLS,), seed=seed, count=SEARCHED, fresh=FRESH)
        artefact = calibrate(oracle, (size,), method, setting, {"name": name})
        numbers[f"{name} kept"] = float(not artefact.entries[0].dropped)
        generator = torch.Generator().manual_seed(seed)
        noises = torch.randn(SEARCHED + FRESH, size, dtype=torch.float64, generator=generator)
        exact = execute(compile_plan("unipc-3", PATH, 400, "log-snr"), oracle, noises)

        def errors(plan: Plan, oracle: Denoiser = oracle, noises: Tensor = noises, exact: Tensor = exact) -> Tensor:
            return (execute(plan, oracle, noises) - exact).square().mean(1).sqrt()

        pools = {"searched": [plan_of_entry(artefact, method, PATH, CALLS, [])], "known": known(),
                 "random": randoms(seed)}  # fmt: skip
        pools["unsearched"] = [compile_plan(built(*each), PATH, CALLS, grid) for each in UNSEARCHED for grid in GRIDS]
        for text, plans in pools.items():
            found = [errors(plan) for plan in plans]
            best = min(found, key=lambda each: float(each[:SEARCHED].median()))  # the same noises choose for all
            fresh = best[SEARCHED:]
            numbers[f"{name} {text} median"] = float(fresh.median())
            numbers[f"{name} {text} root mean square"] = float(fresh.square().mean().sqrt())
        plan = pools["searched"][0]
        request = setting.asked(range(SEARCHED), [])
        numbers[f"{name} gap"] = numbers[f"{name} searched median"] / on_search_noises(plan, oracle, size, request)
    return numbers


def on_search_noises(plan: Plan, oracle: Denoiser, size: int, request: SampleRequest) -> float:
    """The median distance on the noises that the search saw."""
    trials = Trials(oracle, StateSpec.single((size,)), request)
    return float(median_distance(trials.run(plan), trials.reference()[1]) ** 0.5)


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Mean ratios over the seeds."""

    def ratio(name: str, what: str = "median", over: str = "searched", below: str = "known") -> float:
        return statistics.fmean(row[f"{name} {over} {what}"] / row[f"{name} {below} {what}"] for row in rows)

    gains = {name: ratio(name) for name in NAMES}
    gaps = {name: statistics.fmean(row[f"{name} gap"] for row in rows) for name in NAMES}
    control = min(ratio(name, over="random") for name in NAMES)
    holds = max(gains.values()) <= 0.85 and max(gaps.values()) <= 1.8 and control > 1 and min(gains.values()) > 0
    against = {name: ratio(name, below="unsearched") for name in NAMES}
    roots = {name: ratio(name, "root mean square") for name in NAMES}

    def told(values: dict[str, float]) -> str:
        return ", ".join(f"{value:.2f} ({name})" for name, value in values.items())

    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Median distance over the best of 36 known schedules: {told(gains)}; root mean squares {told(roots)}; fresh "
        f"over search noises {told(gaps)}; random schedules at least {control:.2f}. Over the best of forty choices "
        f"without a search: {told(against)}.",
    )
