"""Episodes and windows of them: the objects of this domain.

Time runs as in D4RL: row k holds the observation o_k, the action a_k taken there, the reward r_k it earned and whether
the episode ended with that step. An ``Episode`` may also know the observation after its last action, as Minari's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anydiff.errors import AnydiffError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Episode:
    """A stretch of experience: T rows that belong together, in order.

    Attributes:
        observations: ``[T, d_o]``.
        actions: ``[T, d_a]``, continuous.
        rewards: ``[T]``; zeros where none are known.
        terminal: whether the last step ended the task (not merely its time).
        timeout: whether the last step was cut by a time limit.
        final_observation: the observation after the last action ``[d_o]``, or None where it is not known.
        infos: further arrays with one row per step, by name.
        action_bounds: (least, greatest) value that the environment takes of each action ``[d_a]``, where it is known.

    Raises:
        AnydiffError: arrays of other lengths, values that are not finite or no real numbers, or actions that are not
            continuous.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminal: bool = False
    timeout: bool = False
    final_observation: Array | None = None
    infos: dict[str, Any] = field(default_factory=dict)
    action_bounds: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        observations = _rows("observations", self.observations)
        actions = _rows("actions", self.actions)
        rewards = real_numbers("rewards", self.rewards).reshape(-1)
        for name, value in (("actions", actions), ("rewards", rewards)):
            if len(value) != len(observations):
                raise AnydiffError(
                    f"{name} has {len(value)} rows, but observations has {len(observations)}; an episode needs one of "
                    "each per step."
                )
        for name, value in (("observations", observations), ("actions", actions), ("rewards", rewards)):
            bad = np.argwhere(~np.isfinite(value))
            if len(bad):
                raise AnydiffError(f"{name} is not finite at step {bad[0][0]}; repair or drop that episode.")
        object.__setattr__(self, "observations", observations)
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "rewards", rewards)
        if self.final_observation is not None:
            final = real_numbers("final_observation", self.final_observation).reshape(-1)
            object.__setattr__(self, "final_observation", final)

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total_return(self) -> float:
        """Undiscounted sum of the rewards."""
        return float(self.rewards.sum())

    def window(self, start: int, length: int) -> Episode:
        """Rows ``start`` to ``start + length``; it ends the task only where the episode does."""
        stop = start + length
        if start < 0 or stop > len(self):
            raise AnydiffError(f"rows {start} to {stop} are not all inside an episode of {len(self)} steps.")
        last = stop == len(self)
        after = self.final_observation if last else self.observations[stop]
        return Episode(
            self.observations[start:stop],
            self.actions[start:stop],
            self.rewards[start:stop],
            self.terminal and last,
            self.timeout and last,
            after,
            {name: np.asarray(value)[start:stop] for name, value in self.infos.items()},
            self.action_bounds,
        )


def _rows(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value)
    if name == "actions" and not np.issubdtype(array.dtype, np.floating):
        raise AnydiffError(
            f"actions are of type {array.dtype}, which means discrete ones, but this domain plans continuous (floating "
            "point) actions; choose an environment with a Box action space."
        )
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise AnydiffError(f"{name} has shape {array.shape}, but must be [steps, size].")
    return real_numbers(name, array)


def real_numbers(name: str, value: ArrayLike) -> Array:
    """``value`` as float64; complex numbers, texts and objects are refused instead of cut.

    Raises:
        AnydiffError: no real numbers.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise AnydiffError(f"{name} are of type {array.dtype}, but must be real numbers; convert them first.")
    return array.astype(np.float64)


def shared_bounds(episodes: Sequence[Episode]) -> tuple[Array, Array] | None:
    """(least, greatest) actions that hold for all ``episodes``; None where one of them does not know its own."""
    known = [each.action_bounds for each in episodes if each.action_bounds is not None]
    if not known or len(known) < len(episodes):
        return None
    return np.min([low for low, _ in known], axis=0), np.max([high for _, high in known], axis=0)


def discounted_returns(rewards: Array, discount: float) -> Array:
    """Σ_{j>=k} γ^{j-k} r_j for every step k ``[T]``: the return-to-go, discounted from each step itself."""
    out = np.empty(len(rewards), dtype=np.float64)
    total = 0.0
    for index in range(len(rewards) - 1, -1, -1):
        total = rewards[index] + discount * total
        out[index] = total
    return out


CUT = ("end", "continue")
"""How the return of an episode that was cut is reckoned: see :func:`returns_to_go`."""


def returns_to_go(episode: Episode, discount: float, cut: str = "end") -> Array:
    """The discounted return-to-go R_k of every step k ``[T]``, also where the episode was cut before its task ended.

    An episode whose last step is terminal earns nothing more, so R_k = Σ_{j>=k} γ^{j-k} r_j. One that a time limit (or
    the end of the recording) cut would have gone on. With ``cut="end"`` its sum stops there all the same, which is
    right where an agent is judged within the same limit. With ``cut="continue"`` it is divided by 1 - γ^{T-k}: the
    discounted mean of the rewards from step k on is taken to go on for ever, so that a step near the limit does not
    look like one before a fall.

    Raises:
        AnydiffError: ``cut="continue"`` with a discount of 1, where a return that goes on for ever has no value.
    """
    to_go = discounted_returns(episode.rewards, discount)
    if episode.terminal or cut == "end":
        return to_go
    if discount >= 1:
        raise AnydiffError("cut is 'continue', but discount is 1; give a discount below 1, or cut: end.")
    return np.asarray(to_go / (1.0 - discount ** np.arange(len(to_go), 0, -1)))


def windows(episodes: Sequence[Episode], horizon: int, stride: int = 1) -> NDArray[np.int64]:
    """(episode, first row) of every window of ``horizon`` rows, ``[N, 2]``; none crosses the end of an episode.

    The last window of an episode is always among them. An episode that is shorter than the horizon has one window,
    from its first row, whose rows beyond the end are padding.

    Raises:
        AnydiffError: no episode is as long as the horizon.
    """
    longest = max((len(episode) for episode in episodes), default=0)
    if longest < horizon:
        raise AnydiffError(
            f"horizon is {horizon}, but the longest episode has {longest} steps; choose a shorter horizon."
        )
    found: list[tuple[int, int]] = []
    for number, episode in enumerate(episodes):
        last = max(len(episode) - horizon, 0)
        starts = list(range(0, last + 1, stride))
        found += [(number, start) for start in (starts if starts[-1] == last else [*starts, last])]
    return np.array(found, dtype=np.int64)
