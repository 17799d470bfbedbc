"""Data sets: windows of generated maze runs, of Pendulum swing-ups, and of the user's D4RL or Minari files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.domains import Domain
from anydiff.domains.kit import TENTH, domain_of_data, every_tenth
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.episodes import Episode, returns_to_go, windows
from anydiff_trajectories.files import read_episodes, require_same_environment
from anydiff_trajectories.generate import Pair, maze_episodes, pendulum_episodes


class EpisodeWindows(Dataset):
    """Every window of ``horizon`` rows of some episodes, with the conditions that the domain has.

    The start is the first observation of a window, the goal the first columns of its last; ``returns`` the discounted
    return-to-go at its first row, to the end of the episode or (domain option) of the window.

    Args:
        name: registered name.
        episodes: all episodes; the split takes its share.
        domain: the codec.
        split: ``train`` or ``test``.
        stride: rows between the starts of windows.

    Attributes:
        episodes: those of the split.
        padded: how many windows are padded, one for each episode that is shorter than the horizon.
    """

    def __init__(
        self, name: str, episodes: Sequence[Episode], domain: Trajectories, split: str = "train", stride: int = 1
    ) -> None:
        self.name = name
        self._domain = domain
        chosen = [episodes[place] for place in every_tenth(len(episodes), split)]
        if not chosen:
            raise AnydiffError(f"{name!r} has {len(episodes)} episodes, but {TENTH} are needed for a test split.")
        self.episodes = chosen
        index = windows(chosen, domain.horizon, natural_number("stride", stride))
        offsets = np.concatenate([[0], np.cumsum([len(episode) for episode in chosen])])
        self._first = torch.as_tensor(offsets[index[:, 0]] + index[:, 1])
        lengths = np.array([len(episode) for episode in chosen])
        self._present = torch.as_tensor(np.minimum(lengths[index[:, 0]], domain.horizon))
        self.padded = int((self._present < domain.horizon).sum())
        self._rows = torch.cat([self._table(episode) for episode in chosen])
        self._returns = self._window_returns(index) if domain.returns else None

    @property
    def domain(self) -> Trajectories:
        """The codec."""
        return self._domain

    def __len__(self) -> int:
        return len(self._first)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, horizon, width]`` and conditions of the windows at ``indices``."""
        chosen = torch.as_tensor(list(indices), dtype=torch.int64)
        steps, present = torch.arange(self._domain.horizon), self._present[chosen][:, None]
        states = self._rows[self._first[chosen][:, None] + torch.minimum(steps, present - 1)]
        padding = steps >= present
        if self.padded:
            states = torch.where(padding[..., None], self._domain.at_rest(states), states)
        observation = states[..., self._domain.layout["observation"]]
        given: dict[str, Tensor] = {}
        if "start" in self._domain.known:
            given["start"] = observation[:, 0].clone()
        if "goal" in self._domain.known:
            given["goal"] = observation[:, -1, : self._domain.goal_size].clone()
        if self._returns is not None:
            given["returns"] = self._returns[chosen]
        weight = (~padding).float()[..., None] if self.padded else None
        return states, Conditioning(given, loss_weight=weight)

    def _table(self, episode: Episode) -> Tensor:
        """The normalised rows of a whole episode ``[T, width]``."""
        domain = self._domain
        rows = torch.empty(len(episode), domain.layout.width)
        for part, columns in domain.layout.parts.items():
            values = domain.column(episode, part)
            if values.shape[1] != domain.layout.size(part):
                raise AnydiffError(
                    f"{part} in {self.name!r} has {values.shape[1]} columns, but the domain has "
                    f"{domain.layout.size(part)}; correct domain.parts."
                )
            rows[:, columns] = domain.normalise(part, values)
        return rows

    def _window_returns(self, index: np.ndarray[Any, Any]) -> Tensor:
        domain, horizon = self._domain, self._domain.horizon
        # The rewards of a window are all there, so only a return to the end of the episode asks how that was cut.
        cut = domain.cut if domain.returns == "episode" else "end"
        to_go = [returns_to_go(episode, domain.discount, cut) for episode in self.episodes]
        values = np.empty(len(index))
        for number, (episode, start) in enumerate(index):
            values[number] = to_go[episode][start]
            if domain.returns == "window" and start + horizon < len(to_go[episode]):
                values[number] -= domain.discount**horizon * to_go[episode][start + horizon]
        return torch.as_tensor(domain.returns_unit.encode(values)).float()[:, None]


class MazeRuns(EpisodeWindows):
    """Runs through a maze between given pairs of cells, made with a seed (see :func:`maze_episodes`).

    Args:
        domain: the recipe's, or options of one.
        split: ``train`` or ``test``.
        layout: see :class:`~anydiff_trajectories.maze.Maze`.
        pairs: starts and goals.
        episodes: how many, both splits together.
        steps: length of each.
        seed: of the runs, and of the rows of the stops.
        stops: copies of every window that stop on the way: from a row drawn evenly, the place is held at rest. The goal
            is then a place that was come to on the way to another (a goal in hindsight), and times of arrival vary.
    """

    def __init__(
        self,
        domain: Domain | Mapping[str, Any] | None = None,
        split: str = "train",
        layout: str | Sequence[str] = "hallway",
        pairs: Sequence[Pair] | None = None,
        episodes: int = 400,
        steps: int = 88,
        seed: int = 0,
        stops: int = 0,
    ) -> None:
        made = maze_episodes(layout, pairs, episodes, steps, seed)
        super().__init__("trajectories/maze-runs", made, domain_of_data(Trajectories, domain), split)
        horizon, count = self.domain.spec.shape[0], super().__len__()
        random = np.random.default_rng([seed, 3])
        drawn = random.integers(1, horizon, natural_number("stops", stops, 0) * count)
        self._held = torch.cat([torch.full((count,), horizon), torch.as_tensor(drawn)])

    def __len__(self) -> int:
        return len(self._held)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """As of :class:`EpisodeWindows`; entries from the number of windows on are the copies that stop."""
        chosen = torch.as_tensor(list(indices), dtype=torch.int64)
        states, condition = super().batch((chosen % super().__len__()).tolist())
        domain = self._domain
        place = slice(domain.layout["observation"].start, domain.layout["observation"].start + domain.goal_size)
        held = self._held[chosen]
        last = states[torch.arange(len(states)), held.clamp(max=states.shape[1] - 1)]
        rest = domain.at_rest(last)
        still = np.zeros((1, domain.layout.size("observation")))
        rest[:, domain.layout["observation"]] = domain.normalise("observation", still)
        rest[:, place] = last[:, place]
        stopped = torch.arange(states.shape[1]) >= held[:, None]
        states = torch.where(stopped[..., None], rest[:, None], states)
        if "goal" in condition.given:
            condition = condition.with_given(goal=states[:, -1, place].clone())
        return states, condition


class PendulumRuns(EpisodeWindows):
    """Pendulum swing-ups of a quality, made with a seed (see :func:`pendulum_episodes`).

    Args:
        domain: the recipe's, or options of one.
        split: ``train`` or ``test``.
        quality: of the policy.
        episodes: how many, both splits together.
        seed: of the runs.
    """

    def __init__(
        self,
        domain: Domain | Mapping[str, Any] | None = None,
        split: str = "train",
        quality: str = "replay",
        episodes: int = 200,
        seed: int = 0,
    ) -> None:
        own = domain_of_data(Trajectories, domain, {"parts": {"action": 1, "observation": 3}})
        made = pendulum_episodes(quality, episodes, seed=seed)
        super().__init__("trajectories/pendulum-runs", made, own, split)


class EpisodeFile(EpisodeWindows):
    """The user's own D4RL HDF5 file or Minari folder, used as it is.

    Args:
        path: the file or folder.
        domain: the recipe's, or options of one; `anydiff trajectories recipe` writes them for a file.
        split: ``train`` or ``test``.
        episode_steps: the environment's time limit, for D4RL files without ``timeouts``.
        stride: rows between the starts of windows.
    """

    def __init__(
        self,
        path: str,
        domain: Domain | Mapping[str, Any] | None = None,
        split: str = "train",
        episode_steps: int | None = None,
        stride: int = 1,
    ) -> None:
        episodes = read_episodes(Path(path), episode_steps)
        made = domain_of_data(Trajectories, domain)
        require_same_environment(Path(path), made.environment)
        super().__init__("trajectories/file", episodes, made, split, stride)
