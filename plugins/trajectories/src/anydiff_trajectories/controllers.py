"""Policies that make data: a waypoint controller for mazes, and swing-up controllers of three qualities for Pendulum.

Each is a function of a batch of observations, so that many environments are driven at once; its randomness comes from
the generator it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import UnknownNameError
from anydiff_trajectories.maze import Maze, centre

Array = NDArray[np.float64]


class WaypointController:
    """Drives masses along shortest ways of cells: a = clip(4 (w - p) - 6 v + noise) towards the next waypoint w.

    The noise is an Ornstein-Uhlenbeck process (correlation 0.8 per step), and every mass keeps its own offset from the
    cells' centres, so that no two ways are the same. ``noise=0`` and ``offset=0`` is the expert.

    Args:
        maze: the layout.
        random: where the noise comes from.
        noise: standard deviation of the acceleration's noise.
        offset: greatest offset of the waypoints, in cells.
    """

    def __init__(
        self, maze: Maze, random: np.random.Generator | None = None, noise: float = 0.0, offset: float = 0.0
    ) -> None:
        self.maze = maze
        self.random = random
        self.noise, self.offset = noise, offset
        self._ways: list[list[Any]] = []

    def reset(self, observation: Mapping[str, Array]) -> None:
        """Plan the ways from ``achieved_goal`` to ``desired_goal`` (``[B, 2]`` each)."""
        self._ways = []
        starts, goals = observation["achieved_goal"], observation["desired_goal"]
        shifts = np.zeros_like(starts)
        if self.random is not None:
            shifts = self.random.uniform(-self.offset, self.offset, starts.shape)
        for start, goal, shift in zip(starts, goals, shifts, strict=True):
            cells = self.maze.path(_cell(start), _cell(goal))
            self._ways.append([*(centre(cell) + shift for cell in cells[1:-1]), goal])
        self._drift = np.zeros_like(starts)

    def act(self, observation: Mapping[str, Array]) -> Array:
        """Actions ``[B, 2]``."""
        state = observation["observation"]
        position, velocity = state[:, :2], state[:, 2:]
        target = np.empty_like(position)
        for row, way in enumerate(self._ways):
            if len(way) > 1 and np.linalg.norm(position[row] - way[0]) < 0.4:
                way.pop(0)
            target[row] = way[0]
        if self.random is not None and self.noise:
            fresh = self.random.standard_normal(position.shape) * self.noise * np.sqrt(1 - 0.8**2)
            self._drift = 0.8 * self._drift + fresh
        action: Array = np.clip(4.0 * (target - position) - 6.0 * velocity + self._drift, -1.0, 1.0)
        return action


def _cell(position: Array) -> tuple[int, int]:
    return int(np.floor(position[1] + 0.5)), int(np.floor(position[0] + 0.5))


PENDULUM_QUALITIES: dict[str, tuple[float, float]] = {"random": (0.0, 1.0), "medium": (0.35, 0.4), "expert": (1.0, 0.0)}
"""(gain, noise) of each quality: the share of the expert's torque, and the deviation of the noise in torque limits."""


class PendulumController:
    """Swing-up by energy, then balance: the torque of Gymnasium's Pendulum-v1, ``[B, 3] -> [B, 1]`` in [-2, 2].

    With E = ω²/6 + 5 (cos θ - 1), the energy above rest upright (m = l = 1, g = 10, θ zero upright), far from the top
    u = -2 E sign ω, near it u = -(10 θ + 2.5 ω); then torque = gain · u + noise · 2 z, clipped.

    Args:
        gain: share of the expert's torque, one number or ``[B]``.
        noise: standard deviation of the noise, in units of the torque's limit; one number or ``[B]``.
        random: where the noise comes from.
    """

    def __init__(
        self, gain: float | Array = 1.0, noise: float | Array = 0.0, random: np.random.Generator | None = None
    ) -> None:
        self.gain, self.noise = gain, noise
        self.random = random if random is not None else np.random.default_rng(0)

    @classmethod
    def of_quality(cls, quality: str, random: np.random.Generator | None = None) -> PendulumController:
        """The controller of a named quality.

        Raises:
            UnknownNameError: no such quality.
        """
        if quality not in PENDULUM_QUALITIES:
            raise UnknownNameError("quality", quality, PENDULUM_QUALITIES)
        return cls(*PENDULUM_QUALITIES[quality], random)

    def act(self, observation: Array) -> Array:
        """Torques ``[B, 1]``."""
        cosine, sine, speed = np.asarray(observation, dtype=np.float64).T
        angle = np.arctan2(sine, cosine)
        energy = speed**2 / 6 + 5 * (cosine - 1)
        swing = -2.0 * energy * np.where(speed < 0, -1.0, 1.0)
        balance = -(10.0 * angle + 2.5 * speed)
        torque = self.gain * np.clip(np.where(np.abs(angle) < 0.5, balance, swing), -2.0, 2.0)
        noise = 2.0 * self.noise * self.random.standard_normal(len(torque))
        clipped: Array = np.clip(torque + noise, -2.0, 2.0)[:, None]
        return clipped
