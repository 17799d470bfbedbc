"""Trajectories as states ``[horizon, width]``: normalised rows of actions, observations, rewards, in and out.

The native objects are :class:`~anydiff_trajectories.episodes.Episode`; the files are D4RL's HDF5 and Minari's folders.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anydiff.domains import Domain, Measurement
from anydiff.domains.kit import Normaliser, Scale, make_normaliser
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, Known, Leaf, StateSpec
from anydiff_trajectories.episodes import CUT, Episode, returns_to_go
from anydiff_trajectories.files import SUFFIXES, read_episodes, write_episodes
from anydiff_trajectories.layout import Layout
from anydiff_trajectories.waypoints import SUFFIX, read_waypoints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anydiff.states import Condition

PLANNING = (
    "replan_every", "target_return", "warm_start", "warm_nfe", "candidates", "value_scale", "value_stop", "temperature",
    "from_noise", "level", "renoise",
)  # fmt: skip
"""What a recipe may say about how an agent plans with its model."""


class TrajectoryCodec(Domain):
    """Windows of ``horizon`` rows, each row the normalised parts in order.

    Args:
        horizon: rows of a state.
        parts: name -> columns, see :class:`~anydiff_trajectories.layout.Layout`.
        normalisers: name of a part -> settings of its normaliser; parts that are not named stay as they are.
        environment: the Gymnasium id the data belong to, for rollouts and pictures; may be empty.
        environment_options: arguments of that environment.
        known: which observations of a state may be given: ``start`` (the first), ``goal`` (the first ``goal_size``
            columns of the last), both, or none.
        goal_size: columns of a goal.
        returns: ``"episode"`` or ``"window"`` makes the discounted return a condition, summed from the first row to
            the end of the episode or of the window and divided by ``returns_scale``; empty for none.
        discount: discount of returns.
        returns_scale: what returns are divided by.
        cut: how the return of an episode that a time limit cut is reckoned, ``"end"`` or ``"continue"``: see
            :func:`~anydiff_trajectories.episodes.returns_to_go`.
        planning: how an agent plans unless told otherwise, options of
            :class:`~anydiff_trajectories.policy.DiffusionPolicy`: those of :data:`PLANNING`.
    """

    name = "trajectories"
    suffixes = SUFFIXES
    condition_help = MappingProxyType({"start": "'1 1 0 0'", "goal": "'5 5'", "returns": "0.9"})

    def __init__(
        self,
        horizon: int = 32,
        parts: Mapping[str, int] | None = None,
        normalisers: Mapping[str, Mapping[str, Any]] | None = None,
        environment: str = "",
        environment_options: Mapping[str, Any] | None = None,
        known: Sequence[str] = (),
        goal_size: int = 2,
        returns: str = "",
        discount: float = 0.99,
        returns_scale: float = 1.0,
        planning: Mapping[str, Any] | None = None,
        cut: str = "end",
    ) -> None:
        self.horizon = natural_number("horizon", horizon, 2)
        self.layout = Layout({"action": 2, "observation": 4} if parts is None else parts)
        self._settings = {part: dict(settings) for part, settings in (normalisers or {}).items()}
        self.normalisers: dict[str, Normaliser] = {}
        for part, settings in (normalisers or {}).items():
            made = make_normaliser(settings)
            if made.size != self.layout.size(part):
                raise AnydiffError(
                    f"the normaliser of {part!r} has {made.size} dimensions, but that part has "
                    f"{self.layout.size(part)} columns; fit it to this data."
                )
            self.normalisers[part] = made
        for name in known:
            if name not in ("start", "goal"):
                raise UnknownNameError("known part of a plan", name, ("start", "goal"))
        self.known = tuple(known)
        self.goal_size = natural_number("goal_size", goal_size)
        if "goal" in self.known and self.goal_size > self.layout.size("observation"):
            raise AnydiffError(f"goal_size is {goal_size}, more than the observation's columns.")
        self.environment = environment
        self.environment_options = dict(environment_options or {})
        if returns not in ("", "episode", "window"):
            raise UnknownNameError("kind of returns", returns, ("", "episode", "window"))
        self.returns = returns
        if not 0 < discount <= 1 or not returns_scale > 0:
            raise AnydiffError(
                f"discount is {discount} and returns_scale {returns_scale}, but 0 < discount <= 1 and a positive scale "
                "are needed."
            )
        self.discount, self.returns_scale = float(discount), float(returns_scale)
        self.returns_unit = Scale(self.returns_scale)
        if cut not in CUT:
            raise UnknownNameError("way to reckon a cut return", cut, CUT)
        self.cut = cut
        for name in planning or {}:
            if name not in PLANNING:
                raise UnknownNameError("planning option", name, PLANNING)
        self.planning = dict(planning or {})

    @property
    def spec(self) -> StateSpec:
        """One leaf ``trajectory`` of shape ``(horizon, width)``."""
        return StateSpec([Leaf("trajectory", (self.horizon, self.layout.width))])

    @property
    def codec(self) -> dict[str, Any]:
        """What a column means and in which units: parts, normalisers, and what the conditions stand for."""
        return {
            "parts": {part: self.layout.size(part) for part in self.layout.parts},
            "normalisers": self._settings,
            "known": list(self.known),
            "goal_size": self.goal_size,
            "returns": self.returns,
            "discount": self.discount,
            "returns_scale": self.returns_scale,
            "cut": self.cut,
            "environment": self.environment,
            "environment_options": self.environment_options,
        }

    @property
    def conditions(self) -> dict[str, Condition]:
        """``start`` and ``goal`` (normalised observations) and ``returns``, where this domain has them."""
        from anydiff.states import VectorCondition

        sizes = {"start": self.layout.size("observation"), "goal": self.goal_size}
        found: dict[str, Condition] = {name: VectorCondition(sizes[name]) for name in self.known}
        if self.returns:
            found["returns"] = VectorCondition(1)
        return found

    def resized(self, horizon: int) -> TrajectoryCodec:
        """This domain with another number of rows; a convolutional network samples there too."""
        other = copy.copy(self)
        other.horizon = natural_number("horizon", horizon, 2)
        return other

    # States ---------------------------------------------------------------------------------------------------------

    def normalise(self, part: str, values: Any) -> Tensor:
        """Raw values ``[..., columns]`` of a part as float32 state columns."""
        tensor = torch.as_tensor(np.asarray(values, dtype=np.float64))
        return self._normalised(part, tensor).float()

    def _normalised(self, part: str, tensor: Tensor) -> Tensor:
        normaliser = self.normalisers.get(part)
        return tensor if normaliser is None else normaliser.encode(tensor)

    def restore(self, part: str, values: Tensor) -> Tensor:
        """State columns ``[..., columns]`` of a part as raw values, differentiable."""
        normaliser = self.normalisers.get(part)
        return values if normaliser is None else normaliser.decode(values)

    def raw(self, part: str, states: Tensor) -> Tensor:
        """The raw values ``[..., horizon, columns]`` of a part of ``states [..., horizon, width]``."""
        return self.restore(part, states[..., self.layout[part]])

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """States with every part in raw units, ``[B, horizon, width]`` in the order of ``layout``; differentiable."""
        parts = [self.raw(part, states) for part in self.layout.parts]
        return torch.cat(parts, dim=-1)

    def at_rest(self, states: Tensor) -> Tensor:
        """``states [..., width]`` of which action, reward and return are zero in raw units; the rest stays as it is."""
        out = states.clone()
        for part in ("action", "reward", "return"):
            if part in self.layout:
                out[..., self.layout[part]] = self.normalise(part, np.zeros(self.layout.size(part)))
        return out

    def encode(self, objects: Sequence[Episode]) -> Tensor:
        """States float32 ``[B, horizon, width]`` of episodes of exactly ``horizon`` steps.

        Raises:
            AnydiffError: an episode of another length, or of other sizes.
        """
        states = torch.empty(len(objects), *self.spec.shape)
        for number, episode in enumerate(objects):
            if not isinstance(episode, Episode):
                raise AnydiffError(f"object {number} is a {type(episode).__name__}, but this domain encodes Episodes.")
            if len(episode) != self.horizon:
                raise AnydiffError(
                    f"episode {number} has {len(episode)} steps, but a state has {self.horizon}; cut windows of it "
                    "first (Episode.window)."
                )
            for part, columns in self.layout.parts.items():
                values = self.column(episode, part)
                if values.shape[1] != self.layout.size(part):
                    raise AnydiffError(
                        f"{part} of episode {number} has {values.shape[1]} columns, but this domain has "
                        f"{self.layout.size(part)}; use the environment it was made for."
                    )
                states[number, :, columns] = self.normalise(part, values)
        return states

    def column(self, episode: Episode, part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The raw values ``[T, columns]`` of a part of an episode."""
        if part == "observation":
            return episode.observations
        if part == "action":
            return episode.actions
        if part == "reward":
            return episode.rewards[:, None]
        if part == "return":
            # Written by the data set, which sees beyond the window.
            given = episode.infos.get("return")
            raw = returns_to_go(episode, self.discount, self.cut) if given is None else np.asarray(given)
            return self.returns_unit.encode(np.asarray(raw)).reshape(-1, 1)
        done = np.zeros((len(episode), 1))
        done[-1] = float(episode.terminal)
        return done

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Episode]:
        """Episodes of ``states [B, horizon, width]``; a part this domain does not have is zero.

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        self.spec.check(states)
        if not states.isfinite().all():
            raise AnydiffError("the states hold a value that is not finite; look at the sampler.")
        raw = {part: self.raw(part, states.detach().double().cpu()).numpy() for part in self.layout.parts}
        rows, horizon = states.shape[0], self.horizon
        actions = raw.get("action", np.zeros((rows, horizon, 1)))
        rewards = raw.get("reward", np.zeros((rows, horizon, 1)))
        done = raw.get("done", np.zeros((rows, horizon, 1)))
        return [
            Episode(
                raw["observation"][row],
                actions[row],
                rewards[row, :, 0],
                terminal=bool(done[row, -1, 0] > 0.5),
                infos={"return": self.returns_unit.decode(raw["return"][row, :, 0])} if "return" in raw else {},
            )
            for row in range(rows)
        ]

    # Conditions -----------------------------------------------------------------------------------------------------

    def known_entries(self, condition: Conditioning) -> Known | None:
        """Values and mask ``[B, horizon, width]`` of the start and goal in ``condition``; None without either."""
        given = condition.only(self.known).given
        if not given:
            return None
        one = next(iter(given.values()))
        known = torch.zeros(len(one), *self.spec.shape, device=one.device)
        mask = torch.zeros(known.shape, dtype=torch.bool, device=known.device)
        first = self.layout["observation"].start
        for name, raw in given.items():
            value = raw.float()
            row = 0 if name == "start" else -1
            columns = slice(first, first + value.shape[1])
            known[:, row, columns] = value
            mask[:, row, columns] = condition.presence(name)[:, None]
        return Known(known, mask)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"start": "1 1 0 0", "goal": "5 5", "returns": "0.9"}`` in raw units; several, parted by ``;``, are cycled.

        Raises:
            UnknownNameError: a condition this domain does not have.
            AnydiffError: text that is not the right number of numbers.
        """
        out: dict[str, Tensor] = {}
        for name, value in text.items():
            if name not in self.conditions:
                raise UnknownNameError("condition", name, self.conditions)
            rows = [self._numbers(name, part) for part in value.split(";") if part.strip()]
            if not rows:
                raise AnydiffError(f"{name} is {value!r}, but must hold numbers, as in '1 1 0 0'.")
            table = torch.tensor([rows[index % len(rows)] for index in range(count)], dtype=torch.float64)
            out[name] = self.condition(name, table)
        return out

    def _numbers(self, name: str, text: str) -> list[float]:
        size = self.conditions[name].size  # type: ignore[union-attr]
        try:
            numbers = [float(part) for part in text.replace(",", " ").split()]
        except ValueError:
            numbers = []
        # A start may be a place alone: the rest (velocities) is then zero.
        if name == "start" and len(numbers) == self.goal_size:
            numbers += [0.0] * (size - len(numbers))
        if len(numbers) != size or not all(np.isfinite(numbers)):
            raise AnydiffError(f"{name} is {text.strip()!r}, but must be {size} numbers, separated by blanks.")
        return numbers

    def condition(self, name: str, raw: Any) -> Tensor:
        """Raw values ``[B, size]`` (observations, goals, returns) as the condition ``name``, float32."""
        values = torch.as_tensor(np.asarray(raw, dtype=np.float64))
        if name == "returns":
            return self.returns_unit.encode(values).float()
        full = torch.zeros(*values.shape[:-1], self.layout.size("observation"), dtype=torch.float64)
        full[..., : values.shape[-1]] = values
        return self._normalised("observation", full)[..., : values.shape[-1]].float()

    def raw_condition(self, name: str, value: Tensor) -> Tensor:
        """The inverse of :meth:`condition`, float64."""
        if name == "returns":
            return self.returns_unit.decode(value.double())
        full = torch.zeros(*value.shape[:-1], self.layout.size("observation"), dtype=torch.float64)
        full[..., : value.shape[-1]] = value.double().cpu()
        return self.restore("observation", full)[..., : value.shape[-1]]

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """``(1.0, 1.2) to (5.0, 4.9)`` or ``return 3.2`` for each sample."""
        titles: Iterable[str] = []
        given = condition.given
        if "start" in given and "goal" in given:
            start, goal = self.raw_condition("start", given["start"]), self.raw_condition("goal", given["goal"])
            ends = zip(start[:, : self.goal_size].tolist(), goal.tolist(), strict=True)
            titles = [f"{_place(one)} to {_place(two)}" for one, two in ends]
        elif "returns" in given:
            titles = [f"return {value:.1f}" for value in self.raw_condition("returns", given["returns"])[:, 0].tolist()]
        return list(titles)

    # Files ---------------------------------------------------------------------------------------------

    def read(self, path: str | Path) -> list[Episode]:
        """Episodes of a D4RL HDF5 file or of a Minari data set's folder; see :mod:`anydiff_trajectories.files`."""
        return read_episodes(Path(path))

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """Way-points of a ``.txt`` file (:mod:`anydiff_trajectories.waypoints`), or whole episodes.

        Raises:
            AnydiffError: a step of no trajectory, a file of masks, or an operator of other sizes.
            FileFormatError: a line is no way-point.
        """
        if Path(path).suffix.lower() != SUFFIX:
            return super().read_measurement(path, output, mask)
        if mask is not None:
            raise AnydiffError(f"--mask is {str(mask)!r}, but way-points tell what was seen; leave it out.")
        return read_waypoints(self, Path(path), tuple(output))

    def write(self, objects: Sequence[Episode], path: str | Path) -> None:
        """Write D4RL HDF5 (``.hdf5``, ``.h5``) or a Minari data set (``.minari``, or a folder without an ending)."""
        write_episodes(objects, Path(path), self.environment, self.environment_options, overwrite=True)


def _place(point: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in point) + ")"
