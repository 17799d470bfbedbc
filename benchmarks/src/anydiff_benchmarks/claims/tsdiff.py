"""TSDiff: an unconditional model guided by its own prediction forecasts; refinement improves a naive forecast."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anydiff.denoisers import GaussianOracle
from anydiff.pipeline.ensemble import crps
from anydiff.solvers import sample
from anydiff.states import standard_normal
from anydiff_benchmarks.claims.base import Claim, Verdict

if TYPE_CHECKING:
    from anydiff.pipeline import Pipeline

CLAIM = Claim(
    slug="tsdiff",
    paper="Kollovieh et al. 2023, Predict, Refine, Synthesize, NeurIPS, arXiv:2307.11494",
    says="Observation self-guidance of an unconditional model forecasts about as well as a conditional twin, better "
    "with the quantile energy (Q) than with the squared one (MS) on all eight data sets (CRPS of traffic 0.098 and "
    "0.116, conditional 0.094); refinement helps simple base forecasts most; synthetic windows train a linear model.",
    check="Exact: Gaussian series of length 40 (season, AR(1), noise), context 32, exact scores, the paper's 100 DDPM "
    "steps, 48 series, 64 samples: CRPS, 90 % coverage; 20 refinements of the seasonal naive forecast. Trained: the "
    "bundled TSDiff and TSDiff-Cond on hourly traffic, 64 test days from the week before, 9 samples, 20 calls of "
    "DPM-Solver++(2M), s = 1 (Q) and 0.3 (MS), each the best of its kind on 24 training windows: mean weighted "
    "quantile loss beside seasonal naive; linear predictive score of 500 windows.",
    threshold="Exact, every seed: Q at s = 4 and 8 within 1.05 x the CRPS of exact forecasts and 0.55 x that of "
    "unguided samples; at s = 8 CRPS and |coverage - 0.87| smaller for Q than for MS; refinement (squared, most likely "
    "and Langevin) lowers the CRPS by 20 %. Trained, every seed: Q below MS and below seasonal naive; refinement "
    "lowers the naive forecast's loss by 10 %. 'Not at this scale' if only the trained part fails.",
    seeds=(0, 1, 2),
    needs=("anydiff-timeseries",),
    minutes=5,
)
LENGTH, CONTEXT, PERIOD, SERIES, MEMBERS = 40, 32, 8, 48, 64


def measure(seed: int) -> dict[str, float]:
    """The exact part, then the trained one."""
    return {**exact(seed), **trained(seed)}


def exact(seed: int) -> dict[str, float]:
    """CRPS and coverage of every sampler on the Gaussian series; CRPS of refined naive forecasts."""
    from anydiff_timeseries.data import conditional, seasonal_covariance
    from anydiff_timeseries.refine import Refinement
    from anydiff_timeseries.tsdiff import ObservationGuidance, ancestral_scale, paper_path, quantile_levels

    covariance = seasonal_covariance()
    oracle = GaussianOracle(paper_path(), torch.zeros(1, LENGTH, dtype=torch.float64), covariance)
    noise = torch.from_numpy(standard_normal(seed, range(SERIES), 0, "claim/tsdiff", (LENGTH,)))
    series = noise @ torch.linalg.cholesky(covariance).T
    mask = (torch.arange(LENGTH) < CONTEXT).double().expand(SERIES, LENGTH)
    observed = torch.stack([series, mask], dim=1)
    truth = series[:, CONTEXT:]
    mean, rest = conditional(observed, covariance)
    draws = torch.from_numpy(standard_normal(seed, range(SERIES * MEMBERS), 1, "claim/tsdiff", (LENGTH - CONTEXT,)))
    best = mean[:, None] + draws.reshape(SERIES, MEMBERS, -1) @ torch.linalg.cholesky(rest).T
    numbers = {"exact CRPS": float(crps(best, truth).mean()), "exact coverage": _coverage(best, truth)}

    levels = quantile_levels(MEMBERS)
    condition = {"observed": observed.repeat_interleave(MEMBERS, 0), "quantile_level": levels.repeat(SERIES)}
    grid = [step / 100 for step in range(100, 0, -1)]
    runs = {"unguided": ("squared", 0.0), "MS s=8": ("squared", 8.0)}
    runs |= {"Q s=4": ("quantile", 4.0), "Q s=8": ("quantile", 8.0)}
    for name, (energy, scale) in runs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the paper's schedule keeps some signal at its start, and so do we
            drawn = sample(
                oracle, (1, LENGTH), SERIES * MEMBERS, solver="ddpm", nfe=100, grid=grid, end="denoise", seed=seed,
                guidance=ObservationGuidance(energy, ancestral_scale(oracle.path, grid, scale), scaled=True),
                condition=condition, batch_size=SERIES * MEMBERS, dtype=torch.float64,
            )  # fmt: skip
        members = drawn[:, 0, CONTEXT:].reshape(SERIES, MEMBERS, -1)
        numbers[f"{name} CRPS"] = float(crps(members, truth).mean())
        numbers[f"{name} coverage"] = _coverage(members, truth)
        numbers[f"{name} error of mean"] = _root_mean_square(members.mean(1) - mean)

    naive = series.clone()
    naive[:, CONTEXT:] = series[:, CONTEXT - PERIOD : CONTEXT]
    start = naive.repeat_interleave(MEMBERS, 0)[:, None]
    numbers["naive CRPS"] = float((naive[:, CONTEXT:] - truth).abs().mean())
    for regulariser in ("squared", "quantile"):
        for method in ("most-likely", "langevin"):
            refine = Refinement(method, regulariser)  # type: ignore[arg-type]
            out = refine(oracle, start, mask.repeat_interleave(MEMBERS, 0), levels.repeat(SERIES), seed)
            members = out[:, 0, CONTEXT:].reshape(SERIES, MEMBERS, -1)
            numbers[f"refined ({regulariser}, {method}) CRPS"] = float(crps(members, truth).mean())
    return numbers


def trained(seed: int, members: int = 9) -> dict[str, float]:
    """Mean weighted quantile losses on traffic, refinement and the linear predictive score."""
    from anydiff.pipeline import SampleSet, load
    from anydiff.pipeline.build import build_dataset, sample_set
    from anydiff_timeseries.baselines import linear_gaussian, seasonal_naive, weekly_naive
    from anydiff_timeseries.metrics import LinearPredictiveScore, MeanWeightedQuantileLoss
    from anydiff_timeseries.tsdiff import ObservationGuidance

    pipeline, conditional = load("timeseries/traffic"), load("timeseries/traffic-conditional")
    train = build_dataset(pipeline.recipe, "train")
    reference = pipeline.reference()
    cases, condition = len(reference), {"observed": reference.condition["observed"]}
    loss = MeanWeightedQuantileLoss()
    numbers = {}
    for name, baseline in (("seasonal naive", seasonal_naive), ("weekly naive", weekly_naive)):
        states = baseline(train, condition, cases, seed)
        numbers[f"traffic {name}"] = loss.compute(SampleSet(states, condition, pipeline.domain), reference)
    repeated = {"observed": condition["observed"].repeat(members, 1, 1)}
    states = linear_gaussian(train, repeated, cases * members, seed)
    numbers["traffic linear Gaussian"] = loss.compute(SampleSet(states, repeated, pipeline.domain), reference)
    for name, energy, scale in (("Q", "quantile", 1.0), ("MS", "squared", 0.3)):
        drawn = pipeline.ensemble_set(members, condition, seed=seed, guidance=ObservationGuidance(energy, scale))
        numbers[f"traffic {name}"] = loss.compute(drawn, reference)
    numbers["traffic Cond"] = loss.compute(conditional.ensemble_set(members, condition, seed=seed), reference)
    numbers["traffic refined naive"] = loss.compute(_refined(pipeline, reference, train, members, seed), reference)
    score = LinearPredictiveScore()
    numbers["LPS synthetic"] = score.compute(pipeline.sample_set(500, seed=seed), reference)
    numbers["LPS real"] = score.compute(sample_set(train, range(0, len(train), max(1, len(train) // 500))), reference)
    return numbers


def _refined(pipeline: Pipeline, reference, train, members: int, seed: int):  # type: ignore[no-untyped-def]
    """The seasonal naive forecast of every case, refined, as a sample set in the ensemble layout."""
    from anydiff.pipeline import SampleSet
    from anydiff_timeseries.baselines import seasonal_naive
    from anydiff_timeseries.refine import Refinement
    from anydiff_timeseries.tsdiff import quantile_levels

    observed = reference.condition["observed"].repeat(members, 1, 1)
    start = seasonal_naive(train, {"observed": observed}, len(observed), seed)
    levels = quantile_levels(members).repeat_interleave(len(reference))
    states = Refinement()(pipeline.denoiser, start, observed[:, 1], levels, seed)
    return SampleSet(states, {"observed": observed}, pipeline.domain)


def _coverage(members: Tensor, truth: Tensor) -> float:
    """Share of the truth between the samples' 5 % and 95 % quantiles, interpolated: 0.87 for 64 exact samples."""
    low, high = members.quantile(0.05, dim=1), members.quantile(0.95, dim=1)
    return float(((truth >= low) & (truth <= high)).double().mean())


def _root_mean_square(error: Tensor) -> float:
    return math.sqrt(float(error.square().mean()))


def judge(rows: list[dict[str, float]]) -> Verdict:
    """The exact gates decide whether it is reproduced; the trained ones whether our scale shows it."""

    def gates(r: dict[str, float]) -> bool:
        near = all(0 < r[f"Q s={s} CRPS"] <= min(1.05 * r["exact CRPS"], 0.55 * r["unguided CRPS"]) for s in (4, 8))
        better = r["Q s=8 CRPS"] < r["MS s=8 CRPS"]
        calibrated = abs(r["Q s=8 coverage"] - 0.87) < abs(r["MS s=8 coverage"] - 0.87)
        refined = all(
            0 < r[f"refined (squared, {m}) CRPS"] <= 0.8 * r["naive CRPS"] for m in ("most-likely", "langevin")
        )
        return near and better and calibrated and refined

    def scale(r: dict[str, float]) -> bool:
        forecasts = 0 < r["traffic Q"] < min(r["traffic MS"], r["traffic seasonal naive"])
        return forecasts and 0 < r["traffic refined naive"] <= 0.9 * r["traffic seasonal naive"]

    def mean(name: str) -> str:
        return f"{sum(r[name] for r in rows) / len(rows):.3f}"

    passed = sum(gates(r) for r in rows), sum(scale(r) for r in rows)
    sentence = (
        f"Exact scores ({passed[0]} of {len(rows)} seeds): CRPS exact {mean('exact CRPS')}, unguided "
        f"{mean('unguided CRPS')}, MS {mean('MS s=8 CRPS')} and Q {mean('Q s=8 CRPS')} at s = 8 with coverages "
        f"{mean('MS s=8 coverage')} and {mean('Q s=8 coverage')}; naive {mean('naive CRPS')}, refined "
        f"{mean('refined (squared, most-likely) CRPS')}. Trained on traffic ({passed[1]} of {len(rows)} seeds): loss Q "
        f"{mean('traffic Q')}, MS {mean('traffic MS')}, Cond {mean('traffic Cond')}, seasonal naive "
        f"{mean('traffic seasonal naive')}, refined {mean('traffic refined naive')}."
    )
    if passed[0] < len(rows):
        return Verdict("not reproduced", sentence)
    return Verdict("reproduced" if passed[1] == len(rows) else "not at this scale", sentence)
