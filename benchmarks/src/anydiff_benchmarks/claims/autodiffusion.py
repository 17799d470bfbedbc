"""AutoDiffusion's searched times of four against fixed grids of four, DDIM on mixtures with exact score."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from torch import Tensor

from anydiff.calibration import Grids, Indices, nodes_of, search_grid, uniform
from anydiff.denoisers import GaussianMixtureOracle
from anydiff.metrics import frechet_distance
from anydiff.registry import registry
from anydiff.solvers import DDIM, build_plan, compile_plan, execute
from anydiff_benchmarks.claims._ode_targets import energy_distance
from anydiff_benchmarks.claims.base import Claim, Verdict
from anydiff_benchmarks.peers.targets import PATH, target

CLAIM = Claim(
    slug="autodiffusion",
    paper="Li et al. 2023, AutoDiffusion, ICCV 2023, arXiv:2309.10438",
    says="Which times are visited, searched for FID, decides at few steps: ImageNet 64x64 at 4 steps FID 17.86 against "
    "138.66 with uniform ones.",
    check="DDIM, 4 of 1,000 times, on the ring of eight Gaussians and on ten Gaussians in 8 dimensions (exact score): "
    "Fréchet distance of 500 samples to 5,000 of data, 400 candidates beside the first; validated by 4,000 fresh "
    "samples against 20,000 of data. Beside it energy distance, the best first random candidate, and the least of "
    "six other solvers on five grids at 4 calls.",
    threshold="Means over the seeds: searched at most 0.1 of uniform and 0.6 of the best fixed grid on both, at most 3 "
    "times its value on the search's samples; the best random candidate above the searched one.",
    seeds=(100, 101, 102),
    minutes=3,
    files=("anydiff/calibration/autodiffusion.py",),
    recipes=("images/fashion",),
)
STEPS, SEARCHED, FRESH = 4, 500, 4000
OTHERS = ("dpm-solver++-2m", "unipc-2", "velocity-adams", "by-budget", "deis-2", "ddim")
GRIDS = ("learned", "quadratic", "log-snr", "time", "karras")


def mixture(name: str, seed: int) -> GaussianMixtureOracle:
    """The ring, or ten Gaussians of deviation .15 in 8 dimensions, drawn per seed."""
    if name == "G2":
        return target("G2").oracle
    generator = torch.Generator().manual_seed(seed)
    means = 0.5 * torch.randn(10, 8, dtype=torch.float64, generator=generator)
    weights = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(10, 3.0)))
    return GaussianMixtureOracle(PATH, means, 0.15, weights)


def measure(seed: int) -> dict[str, float]:
    """Fréchet distances on fresh samples."""
    numbers: dict[str, float] = {}
    for name in ("G2", "G8"):
        oracle, generator = mixture(name, seed), torch.Generator().manual_seed(seed)
        size = oracle.means.shape[1]
        data, more = (oracle.sample(count, generator) for count in (5000, 20000))
        noises, fresh = (torch.randn(n, size, dtype=torch.float64, generator=generator) for n in (SEARCHED, FRESH))

        def samples(indices: Indices, start: Tensor, oracle: GaussianMixtureOracle = oracle) -> Tensor:
            return execute(build_plan(DDIM(), PATH, nodes_of(PATH, indices)), oracle, start)

        def fitness(indices: Indices, noises: Tensor = noises, data: Tensor = data) -> float:
            return frechet_distance(samples(indices, noises), data)

        def validated(indices: Indices, fresh: Tensor = fresh, more: Tensor = more) -> float:
            return frechet_distance(samples(indices, fresh), more)

        space = Grids(PATH, STEPS, seed)
        archive = search_grid(space, fitness, 400)
        value, best = archive[0]
        rng = np.random.default_rng([seed, STEPS])
        drawn = min((space.random(rng) for _ in range(26)), key=fitness)
        fixed = {text: validated(each) for text, each in space.fixed().items()}
        numbers[f"{name} searched"], numbers[f"{name} on search"] = validated(best), value
        numbers[f"{name} uniform"] = validated(uniform(STEPS))
        numbers[f"{name} fixed"] = min(fixed.values())
        numbers[f"{name} random"] = validated(drawn)
        for text, indices in (("searched", best), ("uniform", uniform(STEPS))):
            numbers[f"{name} energy {text}"] = energy_distance(samples(indices, fresh[:2000]), more[:2000])
        numbers[f"{name} other solvers"] = min(
            frechet_distance(
                execute(compile_plan(registry().build("solvers", solver), PATH, STEPS, grid), oracle, fresh), more
            )
            for solver in OTHERS
            for grid in GRIDS
        )
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Ratios of means over the seeds."""

    def mean(name: str) -> float:
        return statistics.fmean(row[name] for row in rows)

    def ratio(name: str, below: str, over: str = "searched") -> float:
        return mean(f"{name} {over}") / mean(f"{name} {below}")

    names = ("G2", "G8")
    holds = all(
        0 < ratio(name, "uniform") <= 0.1
        and ratio(name, "fixed") <= 0.6
        and ratio(name, "on search") <= 3
        and ratio(name, "searched", "random") > 1
        for name in names
    )

    def told(below: str, over: str = "searched") -> str:
        return ", ".join(f"{ratio(name, below, over):.3g} ({name})" for name in names)

    values = ", ".join(f"{mean(f'{name} searched'):.3g} ({name})" for name in names)
    energy = ", ".join(f"{mean(f'{name} energy searched') / mean(f'{name} energy uniform'):.2g}" for name in names)
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Fréchet distance of the searched times {values}; over uniform {told('uniform')}; over the best fixed grid "
        f"{told('fixed')}; fresh over search samples {told('on search')}; the best of 26 random sets over searched "
        f"{told('searched', 'random')}; energy distance over uniform {energy}. Over the best of "
        f"{len(OTHERS) * len(GRIDS)} other choices of solver and grid at 4 calls {told('other solvers')}.",
    )
