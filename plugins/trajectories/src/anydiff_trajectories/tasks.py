"""Benchmark tasks of trajectories: closed-loop rollouts."""

from __future__ import annotations

from typing import Any

from anydiff.domains import Evaluates
from anydiff.metrics import Score
from anydiff.pipeline import Pipeline
from anydiff.tasks import Task

_BASELINES = {
    "random actions": "anydiff_trajectories.baselines:random_actions",
    "behaviour cloning": "anydiff_trajectories.baselines:cloning",
    "the data": "anydiff_trajectories.baselines:the_data",
    "expert": "anydiff_trajectories.baselines:expert",
}


def rollouts(pipeline: Pipeline, count: int, seed: int, **sampling: Any) -> dict[str, Score]:
    """Return, success rate and time per decision of the agent that plans with ``pipeline``, over ``count`` episodes."""
    domain = pipeline.domain
    assert isinstance(domain, Evaluates)  # the recipes of these tasks are of trajectories
    return domain.evaluate(pipeline, count, seed=seed, **sampling)


def maze() -> Task:
    """All pairs of corners that no run of the data joins, in two groups; 64 episodes, one plan each."""
    return Task(
        name="trajectories/maze",
        version=2,
        recipe="trajectories/maze",
        help="reach goals in a maze from starts never joined with them in the data",
        samples=64,
        minimum_cases=16,
        evaluator="anydiff_trajectories.tasks:rollouts",
        baselines={**_BASELINES, "behaviour cloning, hindsight": "anydiff_trajectories.baselines:hindsight_cloning"},
        ceiling="expert",
    )


def pendulum() -> Task:
    """Swing-ups from where Gymnasium begins, plans of 32 steps every 4; 24 episodes."""
    return Task(
        name="trajectories/pendulum",
        version=1,
        recipe="trajectories/pendulum",
        help="swing a pendulum up, better than the data it was learned from",
        samples=24,
        evaluator="anydiff_trajectories.tasks:rollouts",
        baselines=_BASELINES,
        ceiling="expert",
        tier="full",
    )
