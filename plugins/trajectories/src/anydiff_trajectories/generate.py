"""Offline data made with a seed: waypoint runs through a maze, Pendulum swing-ups of several qualities, or any policy.

The same arguments give the same episodes, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import UnknownNameError, natural_number
from anydiff_trajectories.controllers import PENDULUM_QUALITIES, PendulumController, WaypointController
from anydiff_trajectories.environments import is_goal_environment, make_many
from anydiff_trajectories.episodes import Episode
from anydiff_trajectories.maze import MazeVectorEnv
from anydiff_trajectories.simulators import pendulum_step

Array = NDArray[np.float64]
Pair = Sequence[Sequence[int]]

QUALITIES = (*PENDULUM_QUALITIES, "replay", "medium-expert")
"""What :func:`pendulum_episodes` makes; ``replay`` runs from random to nearly expert, as a learner's memory does."""


def maze_episodes(
    layout: str | Sequence[str] = "hallway",
    pairs: Sequence[Pair] | None = None,
    episodes: int = 400,
    steps: int = 88,
    seed: int = 0,
    noise: float = 0.3,
    offset: float = 0.2,
) -> list[Episode]:
    """Runs of the waypoint controller between the given pairs of cells, which then stay at their goals.

    Args:
        layout: see :class:`~anydiff_trajectories.maze.Maze`.
        pairs: ((row, column), (row, column)) of starts and goals; all by default.
        episodes: how many.
        steps: length of each.
        seed: whole number.
        noise: of the controller, standard deviation of the acceleration.
        offset: of the controller, greatest offset of its waypoints.
    """
    count, steps = natural_number("episodes", episodes), natural_number("steps", steps)
    environment = MazeVectorEnv(count, layout, pairs, max_episode_steps=steps)
    controller = WaypointController(environment.maze, np.random.default_rng([seed, 1]), noise, offset)
    # Far from the seeds of evaluation, so that no test task is a training task.
    observation, _ = environment.reset(seed=[1_000_003 * (seed + 1) + index for index in range(count)])
    controller.reset(observation)
    goals = observation["desired_goal"]
    return _record(environment, observation, controller.act, steps, {"goal": goals})


def pendulum_episodes(quality: str = "replay", episodes: int = 200, steps: int = 200, seed: int = 0) -> list[Episode]:
    """Swing-ups of Gymnasium's Pendulum-v1, stepped in NumPy.

    Raises:
        UnknownNameError: a quality that is none of :data:`QUALITIES`.
    """
    if quality not in QUALITIES:
        raise UnknownNameError("quality", quality, QUALITIES)
    count = natural_number("episodes", episodes)
    random = np.random.default_rng([seed, 2])
    angle, speed = random.uniform(-np.pi, np.pi, count), random.uniform(-1.0, 1.0, count)
    observation = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
    gain, noise = _mixture(quality, count)
    controller = PendulumController(gain, noise, random)
    rows: list[tuple[Array, Array, Array]] = []
    for _ in range(steps):
        action = controller.act(observation)
        following, reward = pendulum_step(observation, action)
        rows.append((observation, action, reward))
        observation = following
    observations, actions, rewards = (np.stack(each, axis=1) for each in zip(*rows, strict=True))
    return [
        Episode(observations[k], actions[k], rewards[k], timeout=True, final_observation=observation[k])
        for k in range(count)
    ]


def _mixture(quality: str, count: int) -> tuple[Array, Array]:
    """Gain and noise of each episode."""
    if quality == "replay":
        progress = np.linspace(0.0, 1.0, count)
        return progress, 1.0 - 0.9 * progress
    names = ["medium", "expert"] if quality == "medium-expert" else [quality]
    chosen = np.array([PENDULUM_QUALITIES[names[index % len(names)]] for index in range(count)])
    return chosen[:, 0], chosen[:, 1]


def environment_episodes(
    environment: str,
    policy: Callable[[Any], Array],
    episodes: int,
    steps: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Episode]:
    """Episodes of ``policy`` (batch of observations -> actions) in any Gymnasium environment, all at once.

    An episode ends with its termination, or with ``steps``.
    """
    count = natural_number("episodes", episodes)
    environments: Any = make_many(environment, count, options)
    observation, _ = environments.reset(seed=[seed + index for index in range(count)])
    infos = {"goal": observation["desired_goal"]} if isinstance(observation, dict) else {}
    recorded = _record(environments, observation, policy, steps, infos)
    environments.close()
    return recorded


def _record(
    environments: Any, observation: Any, policy: Callable[[Any], Array], steps: int, infos: Mapping[str, Array]
) -> list[Episode]:
    count = environments.num_envs
    goal = is_goal_environment(environments.single_observation_space)
    rows: list[tuple[Array, Array, Array]] = []
    length, terminal = np.full(count, steps), np.zeros(count, dtype=bool)
    running = np.ones(count, dtype=bool)
    states = [np.asarray(observation["observation"] if goal else observation, dtype=np.float64)]
    for step in range(steps):
        action = np.asarray(policy(observation), dtype=np.float64)
        observation, reward, terminated, truncated, _ = environments.step(action)
        states.append(np.asarray(observation["observation"] if goal else observation, dtype=np.float64))
        rows.append((states[-2], action, np.asarray(reward, dtype=np.float64)))
        ended = running & (terminated | truncated)
        length[ended], terminal[ended] = step + 1, terminated[ended]
        running &= ~ended
        if not running.any():
            break
    observations, actions, rewards = (np.stack(each, axis=1) for each in zip(*rows, strict=True))
    stacked = np.stack(states, axis=1)
    return [
        Episode(
            observations[k, : length[k]], actions[k, : length[k]], rewards[k, : length[k]],
            terminal=bool(terminal[k]), timeout=not terminal[k], final_observation=stacked[k, length[k]],
            infos={name: np.repeat(value[k][None], length[k], axis=0) for name, value in infos.items()},
        )
        for k in range(count)
    ]  # fmt: skip
