"""A point mass in a maze, as Gymnasium environments: one at a time, or many at once in NumPy.

The state is (x, y, v_x, v_y) with x the column and y the row of the maze, in cells; the centre of cell (row, column) is
(x, y) = (column, row). An action a in [-1, 1]² accelerates:

    v' = 0.7 v + 0.075 a,    p' = p + v',

so the largest speed is 0.25 cells per step. Each axis moves on its own and stops, its velocity zero, at a wall. The
observation has the keys of ``gymnasium_robotics`` PointMaze (``observation``, ``achieved_goal``, ``desired_goal``), so
an agent for one is an agent for the other. The reward is 1 in every step that ends within ``GOAL_RADIUS`` of the goal,
else 0; nothing terminates, an episode is cut after ``STEPS`` steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, UnknownNameError

WALL, FREE = (0.25, 0.27, 0.32), (0.97, 0.97, 0.97)
"""Colours of a maze, red, green and blue in [0, 1]."""

Array = NDArray[np.float64]

DAMPING = 0.7
GAIN = 0.075
RADIUS = 0.1
"""Half the side of the square that the mass fills."""
GOAL_RADIUS = 0.5
STEPS = 100

MAPS: dict[str, tuple[str, ...]] = {
    "hallway": (
        "#######",
        "#.###.#",
        "#.###.#",
        "#.....#",
        "#.###.#",
        "#.###.#",
        "#######",
    ),
    "open": (
        "#######",
        "#.....#",
        "#.....#",
        "#.....#",
        "#######",
    ),
    "u-maze": (
        "#####",
        "#...#",
        "###.#",
        "#...#",
        "#####",
    ),
    "medium": (
        "########",
        "#..##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#..#",
        "########",
    ),
}
"""Named layouts, ``#`` a wall and ``.`` free; ``u-maze`` and ``medium`` are those of D4RL."""

Cell = tuple[int, int]


class Maze:
    """The layout and the motion of any number of masses at once.

    Args:
        layout: a name of :data:`MAPS`, or rows of ``#`` and ``.`` of one length, closed by walls.

    Raises:
        UnknownNameError: no such layout.
        AnydiffError: rows that are no closed maze.
    """

    def __init__(self, layout: str | Sequence[str] = "hallway") -> None:
        if isinstance(layout, str):
            if layout not in MAPS:
                raise UnknownNameError("maze layout", layout, MAPS)
            layout = MAPS[layout]
        self.rows = tuple(layout)
        if len({len(row) for row in self.rows}) != 1 or set("".join(self.rows)) - set("#."):
            raise AnydiffError(f"layout is {list(layout)!r}, but needs rows of one length made of '#' and '.'.")
        self.walls = np.array([[cell == "#" for cell in row] for row in self.rows])
        border = (self.walls[0], self.walls[-1], self.walls[:, 0], self.walls[:, -1])
        if not all(side.all() for side in border) or self.walls.all():
            raise AnydiffError("layout must be closed by '#' on all four sides and have a free cell '.' inside.")

    @property
    def free(self) -> list[Cell]:
        """The free cells (row, column), in reading order."""
        return [(int(row), int(column)) for row, column in np.argwhere(~self.walls)]

    def blocked(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """Whether a mass at (x, y) would reach into a wall; beyond the maze all is wall. Any shape, elementwise."""
        hit = np.zeros(np.broadcast(x, y).shape, dtype=bool)
        height, width = self.walls.shape
        for dx in (-RADIUS, RADIUS):
            for dy in (-RADIUS, RADIUS):
                column = np.clip(np.floor(x + dx + 0.5), 0, width - 1).astype(int)
                row = np.clip(np.floor(y + dy + 0.5), 0, height - 1).astype(int)
                hit |= self.walls[row, column]
        return hit

    def step(self, state: Array, action: Array) -> Array:
        """The next states ``[B, 4]`` of ``state [B, 4]`` under ``action [B, 2]`` (clipped to [-1, 1])."""
        position, velocity = state[:, :2].copy(), state[:, 2:]
        velocity = DAMPING * velocity + GAIN * np.clip(action, -1.0, 1.0)
        for axis in (0, 1):
            moved = position.copy()
            moved[:, axis] += velocity[:, axis]
            stopped = self.blocked(moved[:, 0], moved[:, 1])
            position[:, axis] = np.where(stopped, position[:, axis], moved[:, axis])
            velocity[:, axis] = np.where(stopped, 0.0, velocity[:, axis])
        return np.concatenate([position, velocity], axis=1)

    def path(self, start: Cell, goal: Cell) -> list[Cell]:
        """A shortest way between free cells, both included (breadth first, so the same one every time).

        Raises:
            AnydiffError: an end is no free cell, or no way leads there.
        """
        for name, cell in (("start", start), ("goal", goal)):
            if cell not in self.free:
                raise AnydiffError(f"{name} is {cell}, which is no free cell (row, column) of this maze.")
        before: dict[Cell, Cell | None] = {start: None}
        queue = deque([start])
        while queue and goal not in before:
            row, column = queue.popleft()
            for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if not self.walls[cell] and cell not in before:
                    before[cell] = (row, column)
                    queue.append(cell)
        if goal not in before:
            raise AnydiffError(f"no way leads from {start} to {goal} in this maze; choose cells of one part.")
        way: list[Cell] = []
        step: Cell | None = goal
        while step is not None:
            way.append(step)
            step = before[step]
        return way[::-1]


def maze_frame(maze: Maze, state: Array, goal: Array, scale: int = 24) -> NDArray[np.uint8]:
    """The maze, the goal (red) and the mass (green) as RGB pixels ``[H, W, 3]``."""
    image = np.where(maze.walls[..., None], WALL, FREE)
    image = np.kron(image, np.ones((scale, scale, 1)))
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    x, y = (columns + 0.5) / scale - 0.5, (rows + 0.5) / scale - 0.5
    image[(x - goal[0]) ** 2 + (y - goal[1]) ** 2 < 0.2**2] = (0.84, 0.15, 0.16)
    image[(x - state[0]) ** 2 + (y - state[1]) ** 2 < 0.15**2] = (0.17, 0.63, 0.17)
    return (image * 255).astype(np.uint8)


def centre(cell: Cell) -> Array:
    """(x, y) of the centre of ``cell`` (row, column)."""
    return np.array([cell[1], cell[0]], dtype=np.float64)


def goal_spaces(maze: Maze) -> Any:
    """The observation space of one environment."""
    height, width = maze.walls.shape
    low, high = np.zeros(2), np.array([width - 1.0, height - 1.0])
    speed = np.full(2, GAIN / (1 - DAMPING) + 1e-9)
    return spaces.Dict(
        {
            "observation": spaces.Box(np.concatenate([low, -speed]), np.concatenate([high, speed]), dtype=np.float64),
            "achieved_goal": spaces.Box(low, high, dtype=np.float64),
            "desired_goal": spaces.Box(low, high, dtype=np.float64),
        }
    )


Pairs = Sequence[Sequence[Sequence[int]]]
"""((row, column), (row, column)) of starts and goals."""


class _Task:
    """What one environment and many share: the maze, the pairs of cells that tasks are drawn from, rewards."""

    def __init__(self, layout: str | Sequence[str], pairs: Pairs | Mapping[str, Pairs] | None) -> None:
        self.maze = Maze(layout)
        free = self.maze.free
        self.grouped = isinstance(pairs, Mapping)
        if pairs is None:
            named: Mapping[str, Any] = {"": [(a, b) for a in free for b in free if a != b]}
        else:
            named = pairs if isinstance(pairs, Mapping) else {"": pairs}
        # Sorted, as the keys of a stored recipe are.
        rows = [(name, (a[0], a[1]), (b[0], b[1])) for name in sorted(named) for a, b in named[name]]
        if not rows:
            raise AnydiffError(f"pairs is {pairs!r}, but tasks are drawn from it; give at least one pair of cells.")
        self.tasks: list[tuple[str, Cell, Cell]] = rows
        for _, start, goal in self.tasks:
            self.maze.path(start, goal)

    def draw(self, random: np.random.Generator, options: Mapping[str, Any] | None) -> tuple[Array, Array, str]:
        """A state at rest near the centre of a start cell, a goal near that of its goal cell, the pair's group."""
        options = options or {}
        group, start, goal = self.tasks[int(random.integers(len(self.tasks)))]
        start, goal = tuple(options.get("start", start)), tuple(options.get("goal", goal))
        self.maze.path(start, goal)
        state = np.concatenate([centre(start) + random.uniform(-0.2, 0.2, 2), np.zeros(2)])
        return state, centre(goal) + random.uniform(-0.2, 0.2, 2), group


def observe(state: Array, goal: Array) -> dict[str, Array]:
    """Observations of states ``[..., 4]`` with goals ``[..., 2]``."""
    return {"observation": state.copy(), "achieved_goal": state[..., :2].copy(), "desired_goal": goal.copy()}


def reached(state: Array, goal: Array) -> NDArray[np.bool_]:
    """Whether states ``[..., >=2]`` lie within :data:`GOAL_RADIUS` of goals ``[..., 2]``."""
    near: NDArray[np.bool_] = np.linalg.norm(state[..., :2] - goal, axis=-1) <= GOAL_RADIUS
    return near


class MazeEnv(gymnasium.Env[dict[str, Array], Array]):
    """One mass. ``reset(options={"start": (row, column), "goal": (row, column)})`` chooses the task.

    Args:
        layout: see :class:`Maze`.
        pairs: the ((row, column), (row, column)) of start and goal to draw from; all by default. A mapping names
            groups of pairs, and ``infos["group"]`` of a reset then says which group the task is of.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  (gymnasium's own contract)

    def __init__(
        self,
        layout: str | Sequence[str] = "hallway",
        pairs: Pairs | Mapping[str, Pairs] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.task = _Task(layout, pairs)
        self.maze = self.task.maze
        self.observation_space = goal_spaces(self.maze)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float64)
        self.render_mode = render_mode
        self.state, self.goal = np.zeros(4), np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """A new task; see the class."""
        super().reset(seed=seed)
        self.state, self.goal, group = self.task.draw(self.np_random, options)
        infos = {"group": group} if self.task.grouped else {}
        return observe(self.state, self.goal), {"success": bool(reached(self.state, self.goal)), **infos}

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """One step; the reward is 1 at the goal."""
        self.state = self.maze.step(self.state[None], np.asarray(action, dtype=np.float64)[None])[0]
        success = bool(reached(self.state, self.goal))
        return observe(self.state, self.goal), float(success), False, False, {"success": success}

    def render(self) -> NDArray[np.uint8]:
        """The maze, the goal and the mass as RGB pixels."""
        return maze_frame(self.maze, self.state, self.goal)


class MazeVectorEnv(VectorEnv[dict[str, Array], Array, Array]):
    """``num_envs`` masses stepped at once; an episode is ``max_episode_steps`` long and resets at the next step."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        layout: str | Sequence[str] = "hallway",
        pairs: Pairs | Mapping[str, Pairs] | None = None,
        max_episode_steps: int = STEPS,
        render_mode: str | None = None,
    ) -> None:
        self.task = _Task(layout, pairs)
        self.maze = self.task.maze
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.single_observation_space = goal_spaces(self.maze)
        self.single_action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float64)
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self.randoms = [np.random.default_rng() for _ in range(num_envs)]
        self.state, self.goal = np.zeros((num_envs, 4)), np.zeros((num_envs, 2))
        self.elapsed = 0

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """New tasks; a list of seeds gives each environment the task that :class:`MazeEnv` has for it."""
        seeds = [seed + index for index in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None:
            made = [gymnasium.utils.seeding.np_random(each)[0] for each in seeds]
            self.randoms = made
        drawn = [self.task.draw(random, options) for random in self.randoms]
        self.state = np.stack([state for state, _, _ in drawn])
        self.goal = np.stack([goal for _, goal, _ in drawn])
        self.elapsed = 0
        infos = {"group": np.array([group for _, _, group in drawn])} if self.task.grouped else {}
        return observe(self.state, self.goal), {"success": reached(self.state, self.goal), **infos}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Any, Any, dict[str, Any]]:
        """One step of all."""
        never = np.zeros(self.num_envs, dtype=bool)
        if self.elapsed >= self.max_episode_steps:
            observation, infos = self.reset()
            return observation, np.zeros(self.num_envs), never, never.copy(), infos
        self.state = self.maze.step(self.state, np.asarray(actions, dtype=np.float64))
        self.elapsed += 1
        success = reached(self.state, self.goal)
        cut = np.full(self.num_envs, self.elapsed >= self.max_episode_steps)
        return observe(self.state, self.goal), success.astype(np.float64), never, cut, {"success": success}
