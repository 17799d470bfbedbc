"""A planner beside its baselines over several seeds: the table and the picture of ``anydiff trajectories compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.domains import Report
from anydiff.errors import AnydiffError, natural_number
from anydiff.pipeline import Pipeline
from anydiff.recipes import build_dataset
from anydiff_trajectories.baselines import agents_beside
from anydiff_trajectories.data import EpisodeWindows
from anydiff_trajectories.policy import Agent, DiffusionPolicy
from anydiff_trajectories.rollout import Rollouts, interval, roll_out
from anydiff_trajectories.scores import normalised_score, reference_scores

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """What one agent did over all seeds.

    Attributes:
        returns: of every episode ``[seeds * count]``, normalised where a reference is known.
        by_seed: their mean, of every seed.
        success: success rate by group of tasks, "" for all of them; empty where the environment reports none.
        milliseconds: per decision; 0 where nothing is decided.
    """

    returns: Array
    by_seed: tuple[float, ...]
    success: dict[str, float]
    milliseconds: float


@dataclass(frozen=True)
class Comparison:
    """Agents by name, and what their returns are called."""

    agents: dict[str, Compared]
    label: str


def compare_agents(
    pipeline: Pipeline, count: int, seeds: Sequence[int], report: Report | None = None, **options: Any
) -> Comparison:
    """Roll the planner out beside random actions, behaviour cloning, the expert and the data themselves.

    Args:
        pipeline: a model that can act.
        count: episodes per agent and seed; every agent meets the same tasks.
        seeds: of tasks, plans and cloned policies.
        report: told (episodes done, all).
        options: of :class:`~anydiff_trajectories.policy.DiffusionPolicy`.

    Raises:
        AnydiffError: the model cannot act, or its data set holds no episodes.
    """
    count = natural_number("count", count)
    given = {name: value for name, value in options.items() if value is not None}
    domain = DiffusionPolicy(pipeline, **given).domain
    data = build_dataset(pipeline.recipe, "train")
    if not isinstance(data, EpisodeWindows) or not domain.environment:
        raise AnydiffError(f"recipe {pipeline.recipe.name!r} has no episodes or names no environment to act in.")
    done: dict[str, list[Rollouts]] = {}
    for number, seed in enumerate(seeds):
        agents: dict[str, Agent] = {pipeline.recipe.name: DiffusionPolicy(pipeline, seed=seed, **given)}
        agents |= agents_beside(data, seed)
        for place, (name, agent) in enumerate(agents.items(), 1):
            played = roll_out(agent, domain.environment, count, seed=seed, options=domain.environment_options)
            done.setdefault(name, []).append(played)
            if report is not None:
                report((number * len(agents) + place) * count, len(seeds) * len(agents) * count)
    scale, label = _scale(domain.environment)
    found = {name: _compared(parts, scale) for name, parts in done.items()}
    own = scale(np.array([episode.total_return for episode in data.episodes]))
    found["the data themselves"] = Compared(own, (), {}, 0.0)
    return Comparison(found, label)


def _scale(environment: str) -> tuple[Any, str]:
    try:
        reference_scores(environment)
    except AnydiffError:
        return (lambda values: values), "return"
    return (lambda values: normalised_score(environment, values)), "normalised return"


def _compared(parts: list[Rollouts], scale: Any) -> Compared:
    success: dict[str, float] = {}
    reached = [part.success for part in parts if part.success is not None]
    if reached:
        every = np.concatenate(reached)
        success[""] = float(every.mean())
        groups = [part.groups for part in parts if part.groups is not None]
        if groups:
            named = np.concatenate(groups)
            success |= {str(name): float(every[named == name].mean()) for name in np.unique(named)}
    seconds = float(np.mean([part.seconds_per_decision for part in parts]))
    return Compared(
        scale(np.concatenate([part.returns for part in parts])),
        tuple(float(scale(part.returns).mean()) for part in parts),
        success,
        1000 * seconds,
    )


def rows_of(found: Comparison) -> list[list[str]]:
    """Agent, mean return, its 95 % interval over all episodes, the means of the seeds, success, milliseconds."""
    rows = []
    for name, each in sorted(found.agents.items(), key=lambda item: -float(item[1].returns.mean())):
        low, high = interval(each.returns)
        success = ", ".join(f"{group} {rate:.2f}".strip() for group, rate in each.success.items())
        seeds = " ".join(f"{value:.1f}" for value in each.by_seed)
        time = f"{each.milliseconds:.2g}" if each.milliseconds else ""
        rows.append([name, f"{each.returns.mean():.1f}", f"{low:.1f} to {high:.1f}", seeds, success, time])
    return rows
