"""The true dynamics, for batches of observations: what plans and synthetic experience are judged by.

``simulator(environment)`` gives ``step(observations [B, d_o], actions [B, d_a]) -> (next observations, rewards)``.
The maze and Pendulum are stepped in NumPy, equal to their environments; PointMaze and MuJoCo's locomotion one by one,
by setting the simulator's state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError
from anydiff_trajectories.environments import MAZE, PENDULUM, make
from anydiff_trajectories.maze import Maze

Array = NDArray[np.float64]
Simulator = Callable[[Array, Array], tuple[Array, Array]]


def pendulum_step(observations: Array, actions: Array) -> tuple[Array, Array]:
    """Gymnasium's Pendulum-v1 (g = 10, m = l = 1, dt = 0.05) on observations (cos θ, sin θ, ω) ``[B, 3]``.

    ω' = clip(ω + (15 sin θ + 3 u) dt, ±8), θ' = θ + ω' dt, reward -(θ² + 0.1 ω² + 0.001 u²) of the state left.
    Observations that are not on the unit circle are taken at their angle.
    """
    angle = np.arctan2(observations[:, 1], observations[:, 0])
    speed, torque = observations[:, 2], np.clip(actions[:, 0], -2.0, 2.0)
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
    angle = angle + speed * 0.05
    return np.stack([np.cos(angle), np.sin(angle), speed], axis=1), reward


def simulator(name: str, options: Mapping[str, Any] | None = None) -> Simulator:
    """The dynamics of the environment ``name``.

    Raises:
        AnydiffError: an environment whose state cannot be set from its observation.
    """
    if name == MAZE:
        maze = Maze((options or {}).get("layout", "hallway"))
        return lambda observations, actions: (maze.step(observations, actions), np.zeros(len(observations)))
    if name == PENDULUM:
        return pendulum_step
    environment = make(name, options)
    inner: Any = environment.unwrapped
    body = getattr(inner, "point_env", inner)
    if not hasattr(body, "set_state") or not hasattr(body, "data"):
        raise AnydiffError(
            f"the state of {name!r} cannot be set from an observation, so plans cannot be checked against it; use a "
            "maze, Pendulum-v1, PointMaze or MuJoCo locomotion."
        )
    environment.reset(seed=0)
    positions = len(body.data.qpos)

    def step(observations: Array, actions: Array) -> tuple[Array, Array]:
        following, rewards = [], []
        # Locomotion leaves the distance walked (root x) out of the observation; it does not matter for the motion.
        missing = positions + len(body.data.qvel) - observations.shape[1]
        for observation, action in zip(observations, actions, strict=True):
            state = np.concatenate([np.zeros(missing), observation])
            body.set_state(state[:positions], state[positions:])
            result = inner.step(np.clip(action, inner.action_space.low, inner.action_space.high))
            after = result[0]["observation"] if isinstance(result[0], dict) else result[0]
            following.append(np.asarray(after, dtype=np.float64))
            rewards.append(float(result[1]))
        return np.stack(following), np.array(rewards)

    return step
