"""``DiffusionPolicy``: an agent that plans, for one Gymnasium environment or many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.pipeline import Pipeline
from anydiff.states import Conditioning
from anydiff_trajectories.codec import TrajectoryCodec
from anydiff_trajectories.diffuser import DiffusionPlanner, planner_of
from anydiff_trajectories.trajectory_diffuser import Entry, TrajectoryPlanner, refine

Array = NDArray[np.float64]
Observation = Any

#: Distance between the sample numbers of two decisions: no vector environment has as many members.
_DECISION = 1 << 20


#: What a policy itself takes of the options; the rest is its planner's.
OWN = ("replan_every", "target_return", "warm_start", "warm_nfe", "from_noise")


class Agent(Protocol):
    """Anything that acts on batches of observations."""

    def reset(self) -> None:
        """Forget everything: new episodes begin."""
        ...

    def act(self, observation: Observation) -> Array:
        """Actions ``[B, d_a]`` for a batch of observations."""
        ...


class DiffusionPolicy:
    """Receding-horizon control: plan, follow the plan for ``replan_every`` steps, plan again.

    A plan that is followed to its end is held there. In mazes the plan's places are tracked (:func:`track_places`).
    Elsewhere, where the network has inverse dynamics, the action is the one that leads from where the environment is to
    the plan's next observation; else it is the planned action.

    Observations are those of Gymnasium: an array, or a dictionary with ``observation`` and ``desired_goal``; of one
    environment or of a vector environment. Row b of a batch is planned for with random numbers of its own, so it acts
    the same in a batch of any size (up to the rounding of the network).

    Args:
        pipeline: the model.
        seed: of all plans.
        planner: a planner of your own.
        tracker: ``f(states [B, d_o], next planned observations [B, d_o]) -> actions``, in place of the above.
        replan_every: steps between plans; 0 plans once per episode; 0 where plans have a goal (as Diffuser
            does in mazes), else 4.
        target_return: return to ask for (raw), where the model has returns as a condition.
        warm_start: time at which the last plan, shifted, re-enters the diffusion; None to plan from noise each time.
        warm_nfe: network calls of a warm plan; 4 by default.
        from_noise: plan from noise; by default so unless the network has a rollout head (Trajectory Diffuser).
        options: of :class:`~anydiff_trajectories.diffuser.DiffusionPlanner` or
            :class:`~anydiff_trajectories.trajectory_diffuser.TrajectoryPlanner`.

    What is not given here is what the recipe says (``planning`` of its domain), and then the defaults above.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        seed: int = 0,
        planner: DiffusionPlanner | None = None,
        tracker: Callable[[Array, Array], Array] | None = None,
        **options: Any,
    ) -> None:
        self.pipeline = pipeline
        self.network = planner_of(pipeline)
        assert isinstance(pipeline.domain, TrajectoryCodec)
        self.domain: TrajectoryCodec = pipeline.domain
        if "action" not in self.domain.layout or "start" not in self.domain.known:
            raise AnydiffError(
                f"recipe {pipeline.recipe.name!r} knows no start or has no actions, so it cannot act; use a recipe "
                "whose domain has known: [start] and an action."
            )
        usual = {"replan_every": 0 if "goal" in self.domain.known else 4, "target_return": None, "warm_start": None,
                 "warm_nfe": 4, "from_noise": self.network.rollout is None, **self.domain.planning}  # fmt: skip
        given = {name: value for name, value in options.items() if name not in OWN or value is not None}
        own = {name: given.pop(name, usual[name]) for name in OWN}
        self.replan_every = natural_number("replan_every", own["replan_every"], 0)
        self.warm_nfe = natural_number("warm_nfe", own["warm_nfe"])
        self.target_return, self.warm_start = own["target_return"], own["warm_start"]
        if planner is None:
            rest = {name: value for name, value in usual.items() if name not in own}
            kind = DiffusionPlanner if own["from_noise"] else TrajectoryPlanner
            planner = kind(pipeline, **{**rest, **given})
        self.planner = planner
        in_maze = self.domain.environment.rpartition("/")[2].startswith(("Maze", "PointMaze"))
        self.tracker = track_places if tracker is None and in_maze else tracker
        self.seed = seed
        self.seconds: list[float] = []
        self.reset()

    def reset(self) -> None:
        """New episodes begin: the plan is forgotten."""
        self.step = 0
        self.decisions = 0
        self.states: Tensor | None = None
        self.seconds = []

    def act(self, observation: Observation) -> Array:
        """Actions ``[B, d_a]`` for a batch of observations (``[d_a]`` for a single one), raw."""
        state, goal = split_observation(observation)
        single = state.ndim == 1
        state, goal = np.atleast_2d(state), None if goal is None else np.atleast_2d(goal)
        due = self.replan_every > 0 and self.step == self.replan_every
        if self.states is None or due or len(self.states) != len(state):
            begun = time.perf_counter()
            self.states = self._plan(state, goal)
            self.seconds.append(time.perf_counter() - begun)
            self.step = 0
        actions = self._follow(state, self.step)
        self.step += 1
        return actions[0] if single else actions

    def _plan(self, state: Array, goal: Array | None) -> Tensor:
        given = {"start": self.domain.condition("start", state)}
        if "goal" in self.domain.known and goal is not None:
            given["goal"] = self.domain.condition("goal", goal[:, : self.domain.goal_size])
        if self.domain.returns and self.target_return is not None:
            target = np.full((len(state), 1), self.target_return)
            given["returns"] = self.domain.condition("returns", target)
        condition = Conditioning(given)
        indices = [self.decisions * _DECISION + row for row in range(len(state))]
        self.decisions += 1
        if self.warm_start is None or self.states is None or len(self.states) != len(state):
            return self.planner.plan(condition, indices, self.seed)
        done = min(self.step, self.states.shape[1] - 1)
        shifted = torch.cat([self.states[:, done:], self.states[:, -1:].expand(-1, done, -1)], dim=1)
        options = {
            name: value
            for name, value in self.planner.options_for(condition).items()
            if name not in ("nfe", "solver", "grid")
        }
        repeated, keys = self.planner.candidate_rows(condition, indices)
        states = refine(
            self.pipeline, shifted.repeat_interleave(self.planner.candidates, dim=0),
            Entry(self.warm_start, self.warm_nfe), seed=self.seed, indices=keys, condition=repeated, **options,
        )  # fmt: skip
        return self.planner.best(states)

    def _follow(self, state: Array, row: int) -> Array:
        """The plan's action at ``row``; by inverse dynamics from where the environment is, if the model has it."""
        assert self.states is not None
        last = self.states.shape[1] - 1
        if self.tracker is not None:
            planned = self.domain.raw("observation", self.states[:, min(row + 1, last)].double()).numpy()
            return self.tracker(state, planned)
        if self.network.inverse is None:
            return self.domain.raw("action", self.states[:, min(row, last)].double()).numpy()
        current = self.domain.normalise("observation", state)
        following = self.states[:, min(row + 1, last), self.domain.layout["observation"]]
        with torch.no_grad():
            action = self.network.inverse(current, following)
        return self.domain.restore("action", action.double()).numpy()


def track_places(state: Array, planned: Array, gain: float = 10.0) -> Array:
    """a = clip(gain ((p* - p) + (v* - v)), ±1): the controller that Diffuser follows its maze plans with.

    Args:
        state: places and velocities ``[B, 2 n]``.
        planned: those of the plan's next row.
        gain: actions per cell and per cell a step.
    """
    half = state.shape[1] // 2
    error = planned - state
    action: Array = np.clip(gain * (error[:, :half] + error[:, half:]), -1.0, 1.0)
    return action


def split_observation(observation: Observation) -> tuple[Array, Array | None]:
    """(state, goal) of an array or of a goal environment's dictionary.

    Raises:
        AnydiffError: a dictionary without ``observation``.
    """
    if isinstance(observation, Mapping):
        if "observation" not in observation:
            raise AnydiffError(
                f"the observation is a dictionary with {sorted(observation)}, but needs 'observation' (and "
                "'desired_goal')."
            )
        goal = observation.get("desired_goal")
        state = np.asarray(observation["observation"], dtype=np.float64)
        return state, None if goal is None else np.asarray(goal, dtype=np.float64)
    return np.asarray(observation, dtype=np.float64), None
