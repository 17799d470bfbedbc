"""Agents in their environments: returns, success and planning time over many seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.domains import Report
from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import MetricCard, Score
from anydiff_trajectories.environments import make_many
from anydiff_trajectories.policy import Agent
from anydiff_trajectories.scores import normalised_score, reference_scores

Array = NDArray[np.float64]

FIRST_SEED = 10_000
"""Evaluation episode k of seed s is reset with FIRST_SEED + 1000 s + k."""


@dataclass(frozen=True)
class Rollouts:
    """What an agent did.

    Attributes:
        returns: undiscounted return of each episode ``[N]``.
        success: whether the environment reported success in any step ``[N]``; None where it reports none.
        seconds_per_decision: wall-clock of acting, divided by steps and episodes.
        steps: length of each episode ``[N]``.
        groups: the group of each episode's task ``[N]`` (str); None where the environment tells none.
    """

    returns: Array
    success: NDArray[np.bool_] | None
    seconds_per_decision: float
    steps: NDArray[np.int64]
    groups: NDArray[np.str_] | None = None


def roll_out(
    agent: Agent,
    environment: str,
    count: int,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    steps: int = 1000,
    at_once: int = 128,
    report: Report | None = None,
) -> Rollouts:
    """Run ``count`` episodes of ``agent``, many environments at once.

    Args:
        agent: acts on batches of observations.
        environment: Gymnasium id.
        count: episodes.
        seed: whole number below 1000 episodes apart; every agent meets the same tasks with the same seed.
        options: arguments of the environment.
        steps: most steps of an episode, where the environment sets no limit.
        at_once: environments stepped together.
        report: told (episodes done, count).
    """
    count = natural_number("count", count)
    parts = []
    for begin in range(0, count, at_once):
        rows = min(at_once, count - begin)
        seeds = [FIRST_SEED + 1000 * seed + begin + row for row in range(rows)]
        parts.append(_episodes(agent, environment, seeds, options, steps))
        if report is not None:
            report(begin + rows, count)
    successes = [part.success for part in parts if part.success is not None]
    groups = [part.groups for part in parts if part.groups is not None]
    return Rollouts(
        np.concatenate([part.returns for part in parts]),
        np.concatenate(successes) if len(successes) == len(parts) else None,
        float(np.mean([part.seconds_per_decision for part in parts])),
        np.concatenate([part.steps for part in parts]),
        np.concatenate(groups) if len(groups) == len(parts) else None,
    )


def _episodes(
    agent: Agent, environment: str, seeds: list[int], options: Mapping[str, Any] | None, steps: int
) -> Rollouts:
    environments: Any = make_many(environment, len(seeds), options)
    observation, infos = environments.reset(seed=seeds)
    agent.reset()
    running = np.ones(len(seeds), dtype=bool)
    returns, length = np.zeros(len(seeds)), np.zeros(len(seeds), dtype=np.int64)
    success = np.zeros(len(seeds), dtype=bool) if "success" in infos else None
    groups = np.asarray(infos["group"], dtype=np.str_) if "group" in infos else None
    acting = 0.0
    for _ in range(steps):
        begun = time.perf_counter()
        action = agent.act(observation)
        acting += time.perf_counter() - begun
        if not np.isfinite(action).all():
            raise AnydiffError("the agent gave an action that is not finite; look at its plan.")
        observation, reward, terminated, truncated, infos = environments.step(action)
        returns += np.where(running, reward, 0.0)
        length += running
        if success is not None and "success" in infos:
            success |= running & np.asarray(infos["success"], dtype=bool)
        running &= ~(terminated | truncated)
        if not running.any():
            break
    environments.close()
    return Rollouts(returns, success, acting / max(int(length.sum()), 1), length, groups)


def interval(values: Array, draws: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean of ``values [N]``: quantiles of the means of ``draws`` resamples."""
    random = np.random.default_rng(seed)
    means = values[random.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def scores_of(rollouts: Rollouts, environment: str) -> dict[str, Score]:
    """Scores with cards: (normalised) return with its 95 % interval, success rate (also of every group of tasks), time
    per decision.
    """
    count = len(rollouts.returns)
    try:
        reference = reference_scores(environment)
        values, name, unit = normalised_score(environment, rollouts.returns), "normalised-return", "per cent"
        version = f"1: 100 (R - {reference[0]:g}) / ({reference[1]:g} - {reference[0]:g})"
    except AnydiffError:
        values, name, unit, version = rollouts.returns, "return", "reward", "1: undiscounted"
    low, high = interval(values)
    found = {f"{name}": float(values.mean()), f"{name}-low": low, f"{name}-high": high}
    scores = {
        f"trajectories/{key}": Score(value, _card(key, unit, environment, version), count, units=units)
        for (key, value), units in zip(found.items(), (_units(values), (), ()), strict=True)
    }
    if rollouts.success is not None:
        card = _card("success-rate", "1", environment, "1: any step", (0.0, 1.0), 1.0)
        scores[card.name] = Score(float(rollouts.success.mean()), card, count, units=_units(rollouts.success))
        for group, chosen in _by_group(rollouts):
            card = _card(f"success-rate-{group}", "1", environment, "1: any step", (0.0, 1.0), 1.0)
            reached = rollouts.success[chosen]
            scores[card.name] = Score(float(reached.mean()), card, int(chosen.sum()), units=_units(reached))
    card = _card("seconds-per-decision", "s", environment, "1: wall clock per step and episode", (0.0, np.inf), 0.0)
    scores[card.name] = Score(rollouts.seconds_per_decision, card, count)
    return scores


def _units(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _by_group(rollouts: Rollouts) -> list[tuple[str, NDArray[np.bool_]]]:
    """(name, which episodes ``[N]``) of every group of tasks."""
    if rollouts.groups is None:
        return []
    return [(str(name), rollouts.groups == name) for name in np.unique(rollouts.groups)]


def _card(
    name: str, unit: str, environment: str, version: str, range: tuple[float, float] = (-np.inf, np.inf),
    ideal: float = 100.0,
) -> MetricCard:  # fmt: skip
    return MetricCard(
        name=f"trajectories/{name}",
        direction="lower" if name == "seconds-per-decision" else "higher",
        unit=unit,
        range=(float(range[0]), float(range[1])),
        ideal=ideal,
        minimum_samples=1,
        features=environment,
        version=version,
        uncertainty="cases",
    )
