"""What every table of planners holds beside them: random actions, behaviour cloning, the data, the expert."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.data import Dataset
from anydiff.errors import AnydiffError
from anydiff.metrics import Score
from anydiff.states import Conditioning
from anydiff_trajectories.controllers import PendulumController, WaypointController
from anydiff_trajectories.data import EpisodeWindows
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.environments import MAZE, PENDULUM, make
from anydiff_trajectories.learner import ActorAgent, behaviour_cloning
from anydiff_trajectories.maze import Maze
from anydiff_trajectories.policy import Agent
from anydiff_trajectories.rollout import Rollouts, roll_out, scores_of

Array = NDArray[np.float64]


class RandomAgent:
    """Uniform actions of the environment's action space."""

    def __init__(self, environment: str, options: dict[str, Any], seed: int) -> None:
        space: Any = make(environment, options).action_space
        self.low, self.high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
        self.random = np.random.default_rng([seed, 5])

    def reset(self) -> None:
        """It has no memory."""

    def act(self, observation: Any) -> Array:
        """Actions for a batch of observations."""
        rows = len(observation["observation"] if isinstance(observation, dict) else observation)
        return self.random.uniform(self.low, self.high, (rows, len(self.low)))


class ExpertAgent:
    """The controller that the data come from, without noise: waypoints in mazes, swing-up for Pendulum.

    Raises:
        AnydiffError: an environment for which there is none.
    """

    def __init__(self, environment: str, options: dict[str, Any]) -> None:
        self.waypoints = WaypointController(Maze(options.get("layout", "hallway"))) if environment == MAZE else None
        self.pendulum = PendulumController() if environment == PENDULUM else None
        if self.waypoints is None and self.pendulum is None:
            raise AnydiffError(f"there is no expert for {environment!r}; leave that baseline out.")
        self.fresh = True

    def reset(self) -> None:
        """A new way is needed."""
        self.fresh = True

    def act(self, observation: Any) -> Array:
        """Actions for a batch of observations."""
        if self.pendulum is not None:
            return self.pendulum.act(observation)
        assert self.waypoints is not None
        if self.fresh:
            self.waypoints.reset(observation)
            self.fresh = False
        return self.waypoints.act(observation)


def _windows(data: Dataset) -> tuple[EpisodeWindows, Trajectories]:
    if not isinstance(data, EpisodeWindows):
        raise AnydiffError(f"data set {data.name!r} holds no episodes, so this baseline cannot learn from it.")
    return data, data.domain


@functools.lru_cache(maxsize=4)
def _cloned(data: EpisodeWindows, goal: bool, hindsight: bool, seed: int) -> ActorAgent:
    return behaviour_cloning(data.episodes, goal=goal, hindsight=hindsight, seed=seed)


def _score(agent: Agent, domain: Trajectories, count: int, seed: int) -> dict[str, Score]:
    rollouts = roll_out(agent, domain.environment, count, seed=seed, options=domain.environment_options)
    return scores_of(rollouts, domain.environment)


def agents_beside(data: EpisodeWindows, seed: int) -> dict[str, Agent]:
    """The agents that a planner is compared with, by name; the expert where there is one."""
    domain = data.domain
    environment, options = domain.environment, domain.environment_options
    goal = "goal" in domain.known
    found: dict[str, Agent] = {
        "random actions": RandomAgent(environment, options, seed),
        "behaviour cloning": _cloned(data, goal, False, seed),
    }
    if goal:
        found["behaviour cloning, hindsight"] = _cloned(data, True, True, seed)
    if environment in (MAZE, PENDULUM):
        found["expert"] = ExpertAgent(environment, options)
    return found


def random_actions(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> dict[str, Score]:
    """Uniform actions."""
    _, domain = _windows(training_data)
    return _score(RandomAgent(domain.environment, domain.environment_options, seed), domain, count, seed)


def cloning(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> dict[str, Score]:
    """Behaviour cloning of the training episodes, given the goal where episodes have one."""
    data, domain = _windows(training_data)
    return _score(_cloned(data, "goal" in domain.known, False, seed), domain, count, seed)


def hindsight_cloning(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> dict[str, Score]:
    """Behaviour cloning with goals in hindsight: places the training episodes came to later."""
    data, domain = _windows(training_data)
    return _score(_cloned(data, True, True, seed), domain, count, seed)


def expert(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> dict[str, Score]:
    """The controller without noise."""
    _, domain = _windows(training_data)
    return _score(ExpertAgent(domain.environment, domain.environment_options), domain, count, seed)


def the_data(training_data: Dataset, condition: Conditioning, count: int, seed: int) -> dict[str, Score]:
    """The returns of the training episodes themselves (their own starts and goals, their own length)."""
    data, domain = _windows(training_data)
    chosen = data.episodes[:count]
    returns = np.array([episode.total_return for episode in chosen])
    success = returns > 0 if "goal" in domain.known else None
    steps = np.array([len(episode) for episode in chosen])
    scores = scores_of(Rollouts(returns, success, 0.0, steps), domain.environment)
    # Nothing was decided here.
    return {name: score for name, score in scores.items() if not name.endswith("seconds-per-decision")}
