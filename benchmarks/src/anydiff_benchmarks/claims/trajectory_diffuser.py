"""Trajectory Diffuser: a cheap autoregressive plan and a few steps of diffusion are as good as diffusion from noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.solvers import DDIM, compile_plan
from anydiff_benchmarks.claims.base import Claim, Verdict

Array = NDArray[np.float64]

CLAIM = Claim(
    slug="trajectory_diffuser",
    paper="Huang et al. 2024, Diffusion models as optimizers for efficient planning in offline RL, arXiv:2407.16142",
    says="An autoregressive plan refined by 5 of 100 diffusion steps plans 3 to 10 times faster than diffusion from "
    "noise, at no lower return.",
    check="(A) 64-point curves around two modes (80 % and 20 %), exact score, the paper's linear schedule of 100 "
    "levels (which ends at alpha 0.589): a least-squares AR(8) plan, refined by n = 5 and n = 20 ancestral steps, "
    "1,000 curves; distance to the nearest mode (floor 0.100; ancestral sampling has 0.088). (B) The maze of the "
    "plugin with its reference weights (one training), all eight pairs of corners that no run of the data joins (four "
    "through the corridor, four straight past it), 64 episodes per seed, one plan each: return and success of the "
    "GRU's plan refined by 5 calls from t = 0.15, of 20 DDIM calls from noise, of the GRU alone and of behaviour "
    "cloning, given the goal of the run or a goal in hindsight; time of a plan by turns, refined and from noise, the "
    "median of the ratios of 15 rounds.",
    threshold="In every seed: (A) AR >= 0.40, n = 5 <= 0.36, n = 20 <= 0.13, at most 5 % of curves change their mode "
    "during n = 5. (B) return refined >= 0.95 x diffusion at <= 0.4 x its time, and both at least behaviour "
    "cloning given the goal. B failing on returns alone is 'not at this scale'.",
    seeds=(0, 1, 2),
    needs=("anydiff-trajectories",),
    minutes=2,
    files=("anydiff_trajectories/trajectory_diffuser.py",),
    recipes=("trajectories/maze-optimiser",),
)

# A: an exact score --------------------------------------------------------------------------------------------------

POINTS, HISTORY, CURVES = 64, 8, 1000
MODES = np.stack([np.cos(2 * np.pi * f * np.arange(POINTS) / POINTS) for f in (5, 3)])
STD, SHARES = 0.1, (0.8, 0.2)
#: A continuous path whose log-SNR passes through all 100 levels of the discrete schedule.
PATH = VPLinear(beta_min=0.1, beta_max=2.1)


def levels() -> list[float]:
    """Times at which the path has the log-SNR of level 1, 2, ..., 100 of the schedule 1e-3 .. 2e-2."""
    kept = np.cumprod(1 - np.linspace(1e-3, 2e-2, 100))
    log_snr = 0.5 * np.log(kept / (1 - kept))
    return [float(t) for t in PATH.time(torch.from_numpy(log_snr))]


def _curves(random: np.random.Generator, count: int) -> Array:
    mode = (random.random(count) < SHARES[1]).astype(int)
    curves: Array = MODES[mode] + STD * random.standard_normal((count, POINTS))
    return curves


def _nearest(curves: Array) -> tuple[float, NDArray[np.int64]]:
    distance = np.sqrt(((curves[:, None] - MODES[None]) ** 2).mean(axis=-1))
    return float(distance.min(axis=1).mean()), distance.argmin(axis=1)


def autoregressive_plans(random: np.random.Generator) -> Array:
    """An AR(8) model fitted by least squares to 500 curves, rolled out from the first 8 values of others."""
    data = _curves(random, 500)
    rows = np.stack([data[:, k : k + HISTORY] for k in range(POINTS - HISTORY)], axis=1).reshape(-1, HISTORY)
    weights = np.linalg.lstsq(rows, data[:, HISTORY:].reshape(-1), rcond=None)[0]
    values = list(_curves(random, CURVES)[:, :HISTORY].T)
    while len(values) < POINTS:
        values.append(np.stack(values[-HISTORY:], axis=1) @ weights)
    return np.stack(values, axis=1)


def _refined(plans: Array, steps: int, seed: int) -> Array:
    """Ancestral steps n, n-1, ..., 1 and the jump to D; the plans enter as they are, without noise."""
    oracle = GaussianMixtureOracle(PATH, torch.from_numpy(MODES), STD, weights=torch.tensor(SHARES))
    plan = compile_plan(DDIM(1.0), PATH, steps, levels()[:steps][::-1], "denoise")
    states = sample(
        oracle, (POINTS,), len(plans), solver=plan, seed=seed, start=torch.from_numpy(plans), dtype=torch.float64
    )
    return states.numpy()


def _exact(seed: int) -> dict[str, float]:
    random = np.random.default_rng(seed)
    plans = autoregressive_plans(random)
    first, before = _nearest(plans)
    numbers = {"A: distance, autoregressive": first}
    for steps in (5, 20):
        numbers[f"A: distance, n={steps}"], mode = _nearest(_refined(plans, steps, seed))
        numbers[f"A: share that changes mode, n={steps}"] = float((mode != before).mean())
    noise, mode = _nearest(_refined(random.standard_normal((CURVES, POINTS)), 100, seed))
    return {
        **numbers,
        "A: distance, from noise": noise,
        "A: share of the first mode, from noise": float((mode == 0).mean()),
    }


# B: the maze, with the reference weights -----------------------------------------------------------------------------

EPISODES, ROUNDS = 64, 15


def _agents(seed: int) -> dict[str, Any]:
    """The planners and the cloned policies, by name."""
    from anydiff.pipeline import load
    from anydiff.recipes import build_dataset
    from anydiff_trajectories.data import EpisodeWindows
    from anydiff_trajectories.diffuser import DiffusionPlanner
    from anydiff_trajectories.learner import behaviour_cloning
    from anydiff_trajectories.policy import DiffusionPolicy
    from anydiff_trajectories.trajectory_diffuser import TrajectoryPlanner

    pipeline = load("trajectories/maze-optimiser")
    data = build_dataset(pipeline.recipe, "train")
    assert isinstance(data, EpisodeWindows)
    common: dict[str, Any] = {"solver": "ddim"}
    planners = {
        "autoregressive": TrajectoryPlanner(pipeline, nfe=0, **common),
        "refined": TrajectoryPlanner(pipeline, level=0.15, nfe=5, **common),
        "diffusion": DiffusionPlanner(pipeline, nfe=20, **common),
    }
    return {
        **{name: DiffusionPolicy(pipeline, planner=planner, seed=seed) for name, planner in planners.items()},
        "behaviour cloning": behaviour_cloning(data.episodes, goal=True, steps=2000, seed=seed),
        "cloning in hindsight": behaviour_cloning(data.episodes, hindsight=True, steps=2000, seed=seed),
    }


def _play(seed: int) -> dict[str, float]:
    """Returns and success on pairs never joined in the data, and the planners' times."""
    from anydiff_trajectories.rollout import roll_out

    agents = _agents(seed)
    domain = agents["refined"].domain
    numbers = {}
    for name, agent in agents.items():
        done = roll_out(agent, domain.environment, EPISODES, seed=seed, options=domain.environment_options)
        assert done.success is not None
        assert done.groups is not None
        numbers[f"B: return, {name}"] = float(done.returns.mean())
        numbers[f"B: success, {name}"] = float(done.success.mean())
        for group in ("corridor", "straight"):
            numbers[f"B: success, {name}, {group}"] = float(done.success[done.groups == group].mean())
    return {**numbers, **_times(agents["refined"], agents["diffusion"])}


def _times(refined: Any, diffusion: Any) -> dict[str, float]:
    """Milliseconds of one plan for all episodes at once, and the ratio; by turns, so that a busy machine hits both."""
    from anydiff_trajectories.environments import make_many

    domain = refined.domain
    environments: Any = make_many(domain.environment, EPISODES, domain.environment_options)
    observation, _ = environments.reset(seed=list(range(EPISODES)))
    rounds = []
    for _ in range(ROUNDS + 1):
        taken = []
        for agent in (refined, diffusion):
            agent.reset()
            agent.act(observation)
            taken.append(agent.seconds[0])
        rounds.append(taken)
    # The first round wakes the libraries.
    times = np.array(rounds[1:])
    milliseconds = 1000 * np.median(times, axis=0)
    return {
        "B: milliseconds, refined": float(milliseconds[0]),
        "B: milliseconds, diffusion": float(milliseconds[1]),
        "B: time, refined / diffusion": float(np.median(times[:, 0] / times[:, 1])),
    }


def measure(seed: int) -> dict[str, float]:
    """The numbers of A and B; the milliseconds are of this machine."""
    torch.set_num_threads(1)
    return {**_exact(seed), **_play(seed)}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """A must hold; then B."""
    exact = all(
        r["A: distance, autoregressive"] >= 0.40
        and r["A: distance, n=5"] <= 0.36
        and r["A: distance, n=20"] <= 0.13
        and r["A: share that changes mode, n=5"] <= 0.05
        for r in rows
    )
    fast = all(r["B: time, refined / diffusion"] <= 0.4 for r in rows)
    good = all(
        r["B: return, refined"] >= 0.95 * r["B: return, diffusion"]
        and min(r["B: return, refined"], r["B: return, diffusion"]) >= r["B: return, behaviour cloning"]
        for r in rows
    )
    mean = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    agents = ("refined", "diffusion", "autoregressive", "behaviour cloning", "cloning in hindsight")
    table = ", ".join(
        f"{name} {mean[f'B: return, {name}']:.1f} ({mean[f'B: success, {name}, corridor']:.2f}, "
        f"{mean[f'B: success, {name}, straight']:.2f})"
        for name in agents
    )
    sentence = (
        f"A: {mean['A: distance, autoregressive']:.2f} -> {mean['A: distance, n=5']:.2f} (5 steps) -> "
        f"{mean['A: distance, n=20']:.2f} (20 steps). B: return (success through the corridor, straight): {table}; a "
        f"refined plan takes {mean['B: time, refined / diffusion']:.2f} of the time of one from noise."
    )
    if not exact or not fast:
        return Verdict("not reproduced", sentence)
    return Verdict("reproduced" if good else "not at this scale", sentence)
