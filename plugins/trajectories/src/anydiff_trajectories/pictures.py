"""Pictures: plans over the maze, plans along the reverse process, returns, and rollouts as GIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anydiff.domains.kit.pictures import panels, write_figure
from anydiff.errors import AnydiffError
from anydiff.states import Conditioning
from anydiff_trajectories.environments import MAZE
from anydiff_trajectories.episodes import Episode
from anydiff_trajectories.maze import FREE, WALL, Maze, maze_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anydiff.pipeline import Pipeline
    from anydiff.solvers import Step
    from anydiff_trajectories.domain import Trajectories

Array = NDArray[np.float64]


def draw_maze(axes: Axes, maze: Maze) -> None:
    """The walls, with (0, 0) at the upper left as the layout is written."""
    image = np.where(maze.walls[..., None], WALL, FREE)
    axes.imshow(image, origin="upper", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def draw_way(axes: Axes, places: Array, goal: Array | None = None) -> None:
    """A way ``[T, >=2]`` from early (violet) to late (yellow), its start as a circle and its goal as a star."""
    axes.plot(places[:, 0], places[:, 1], color="0.75", linewidth=0.8, zorder=2)
    axes.scatter(places[:, 0], places[:, 1], c=np.linspace(0, 1, len(places)), s=7, cmap="plasma", zorder=3)
    axes.plot(places[0, 0], places[0, 1], "o", color="tab:green", markersize=6, zorder=4)
    end = places[-1, :2] if goal is None else goal
    axes.plot(end[0], end[1], "*", color="tab:red", markersize=10, zorder=4)


def draw_episodes(
    episodes: Sequence[Episode], path: Path, titles: Sequence[str] | None, domain: Trajectories, most: int = 16
) -> None:
    """Up to ``most`` episodes: over their maze, or each observation against time where there is none (PNG)."""
    if not episodes:
        raise AnydiffError("there is no episode to draw; give at least one.")
    shown = episodes[:most]
    maze = Maze(domain.environment_options.get("layout", "hallway")) if domain.environment == MAZE else None
    figure, axes = panels(len(shown), 2.4, 2.5 if maze else 1.9)
    for index, (each, episode) in enumerate(zip(axes, shown, strict=True)):
        if maze is not None:
            draw_maze(each, maze)
            draw_way(each, episode.observations)
        else:
            _draw_series(each, episode, legend=index == 0)
        if titles:
            each.set_title(titles[index], fontsize=8)
    write_figure(figure, path)


def _draw_series(axes: Axes, episode: Episode, legend: bool) -> None:
    for column, values in enumerate(episode.observations.T):
        axes.plot(values, linewidth=1, label=f"observation {column}")
    for column, values in enumerate(episode.actions.T):
        axes.step(range(len(values)), values, linewidth=0.8, linestyle=":", label=f"action {column}", where="post")
    axes.tick_params(labelsize=7)
    axes.set_xlabel("step", fontsize=7)
    if legend and episode.observations.shape[1] <= 6:
        axes.legend(fontsize=5, loc="best")


def draw_reverse_process(
    frames: Sequence[tuple[float, Array]], path: Path, maze: Maze, goal: Array | None = None
) -> None:
    """One plan at several times of the reverse process.

    Args:
        frames: (time t, D(x_t) of the plan in raw units ``[horizon, >=2]``), in the order of sampling.
        path: PNG.
        maze: drawn beneath.
        goal: (x, y).
    """
    figure, axes = panels(len(frames), 2.0, 2.1)
    height, width = maze.walls.shape
    for each, (time, places) in zip(axes, frames, strict=True):
        draw_maze(each, maze)
        draw_way(each, places, goal)
        each.set_title(f"t = {time:.2f}", fontsize=8)
        each.set_xlim(-0.5, width - 0.5)
        each.set_ylim(height - 0.5, -0.5)
    write_figure(figure, path)


def plan_frames(
    pipeline: Pipeline, condition: Conditioning, seed: int = 0, frames: int = 8, **options: Any
) -> list[tuple[float, Array]]:
    """(t, D(x_t)) of one plan, raw observations ``[horizon, d_o]``: at most ``frames`` evenly chosen network calls.

    Args:
        pipeline: the model.
        condition: normalised, one row.
        seed: whole number.
        frames: at most so many, the first and the last call among them.
        options: of :meth:`Pipeline.sample`.
    """
    domain: Any = pipeline.domain
    seen: list[tuple[float, Array]] = []

    def look(step: Step) -> None:
        seen.append((step.t, domain.raw("observation", step.prediction[0].double().cpu()).numpy()))

    pipeline.sample_set(1, seed=seed, condition=condition, callbacks=[look], **options)
    chosen = np.unique(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int))
    return [seen[index] for index in chosen]


def draw_returns(returns: Mapping[str, Sequence[float]], path: Path, label: str = "normalised return") -> None:
    """The distribution of returns of several agents: every episode a dot, the mean a bar, sorted by mean (PNG)."""
    order = sorted(returns, key=lambda name: float(np.mean(returns[name])))
    figure, (axes,) = panels(1, 6, 0.5 + 0.45 * len(order))
    for row, name in enumerate(order):
        values = np.sort(np.asarray(returns[name], dtype=np.float64))
        # Spread over the row by rank, which needs no random numbers.
        spread = 0.3 * np.sin(np.arange(len(values)) * 2.4)
        axes.plot(values, row + spread, ".", color="tab:blue", alpha=0.4, markersize=4)
        axes.plot([values.mean()] * 2, [row - 0.35, row + 0.35], color="tab:red")
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(label)
    write_figure(figure, path)


def frames_of(maze: Maze, episode: Episode) -> list[NDArray[np.uint8]]:
    """The frames of a maze episode whose ``infos["goal"]`` is known."""
    goal: Any = np.asarray(episode.infos["goal"])[0]
    return [maze_frame(maze, state, goal) for state in episode.observations]
