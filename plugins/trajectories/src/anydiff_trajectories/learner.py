"""Small learners on offline data: behaviour cloning, and TD3+BC for policies on real and synthetic transitions.

TD3+BC: Fujimoto & Gu, "A minimalist approach to offline reinforcement learning", NeurIPS 2021 (arXiv:2106.06860). The
maintained library d3rlpy has it, but pins gymnasium 1.0.0 and needs the old ``gym``, which this package cannot; IQL and
others are to be had there from the files this package writes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anydiff.errors import AnydiffError, natural_number
from anydiff.metrics import SampleSet
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.episodes import Episode
from anydiff_trajectories.policy import split_observation

Array = NDArray[np.float64]


def _mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class Actor(nn.Module):
    """a = limit · tanh(MLP((o - mean) / std)), o the observation, with the goal appended where there is one."""

    mean: Tensor
    std: Tensor
    limit: Tensor

    def __init__(self, mean: Tensor, std: Tensor, limit: Tensor, hidden: int = 128) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float().clamp_min(1e-6))
        self.register_buffer("limit", limit.float())
        self.layers = _mlp(len(mean), len(limit), hidden)

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``[..., d_a]`` of raw observations ``[..., d_o]``; in their dtype."""
        scaled = (observation.float() - self.mean) / self.std
        return (self.limit * torch.tanh(self.layers(scaled))).to(observation.dtype)


class ActorAgent:
    """An actor as an agent for environments; goals are appended to observations if ``goal``."""

    def __init__(self, actor: Actor, goal: bool = False) -> None:
        self.actor, self.goal = actor, goal

    def reset(self) -> None:
        """It has no memory."""

    def act(self, observation: Any) -> Array:
        """Actions for a batch of observations."""
        state, goal = split_observation(observation)
        if self.goal and goal is not None:
            state = np.concatenate([state, goal], axis=-1)
        with torch.no_grad():
            action: Tensor = self.actor(torch.as_tensor(state))
        return action.double().numpy()


@dataclass(frozen=True)
class Transitions:
    """(o, a, r, o', terminal) as float32 tensors with one row per step."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    following: Tensor
    terminals: Tensor

    def __len__(self) -> int:
        return len(self.rewards)

    def rows(self, index: Tensor) -> Transitions:
        """The transitions at ``index``."""
        return Transitions(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def transitions_of(episodes: Sequence[Episode]) -> Transitions:
    """All transitions whose next observation is known; none crosses the end of an episode."""
    parts: list[list[Array]] = [[], [], [], [], []]
    for episode in episodes:
        steps = len(episode) if episode.final_observation is not None else len(episode) - 1
        after = episode.observations[1:]
        if episode.final_observation is not None:
            after = np.concatenate([after, episode.final_observation[None]])
        done = np.zeros(steps)
        if steps == len(episode):
            done[-1] = float(episode.terminal)
        row = (episode.observations[:steps], episode.actions[:steps], episode.rewards[:steps], after[:steps], done)
        for part, value in zip(parts, row, strict=True):
            part.append(value)
    return Transitions(*(torch.as_tensor(np.concatenate(part)).float() for part in parts))


def synthetic_transitions(samples: SampleSet) -> Transitions:
    """The transitions of generated trajectories: the next observation is the next row's.

    A row whose ``done`` is above ½ ends the task; what a trajectory holds after its first such row is left out.
    """
    domain = samples.domain
    if not isinstance(domain, Trajectories) or "reward" not in domain.layout:
        raise AnydiffError(
            "synthetic experience needs trajectories with rewards; use a recipe whose parts have reward."
        )
    states = samples.states.double()
    observation, action = domain.raw("observation", states), domain.raw("action", states)
    reward = domain.raw("reward", states)[..., 0]
    done = torch.zeros_like(reward)
    if "done" in domain.layout:
        done = (domain.raw("done", states)[..., 0] > 0.5).double()
    alive = (done.cumsum(dim=1) - done)[:, :-1] == 0
    values = (observation[:, :-1], action[:, :-1], reward[:, :-1], observation[:, 1:], done[:, :-1])
    return Transitions(*(value[alive].float() for value in values))


def behaviour_cloning(
    episodes: Sequence[Episode], *, goal: bool = False, hindsight: bool = False, steps: int = 4000,
    batch_size: int = 256, hidden: int = 128, learning_rate: float = 1e-3, seed: int = 0,
) -> ActorAgent:  # fmt: skip
    """The policy of the data by regression of its actions.

    Args:
        episodes: the data.
        goal: condition the policy on ``infos["goal"]``, what each episode was after.
        hindsight: condition it instead on a place the episode came to later, drawn evenly (goals in hindsight); a place
            is as many first columns of an observation as ``infos["goal"]`` has.
        steps: updates.
        batch_size: rows per update.
        hidden: units per layer.
        learning_rate: of Adam, annealed by a cosine.
        seed: of weights and batches.
    """
    goal = goal or hindsight
    observations = torch.as_tensor(np.concatenate([e.observations for e in episodes])).float()
    actions = torch.as_tensor(np.concatenate([e.actions for e in episodes])).float()
    goals = observations[:, :0]
    if goal:
        goals = torch.as_tensor(np.concatenate([e.infos["goal"] for e in episodes])).float()
    # The last row of every row's episode.
    lengths = torch.tensor([len(e) for e in episodes])
    last = (lengths.cumsum(0) - 1).repeat_interleave(lengths)
    random = torch.Generator().manual_seed(seed)
    actor = _new_actor(torch.cat([observations, goals], dim=1), actions, hidden, seed)
    optimizer = torch.optim.Adam(actor.parameters(), learning_rate)
    for step in range(natural_number("steps", steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        index = torch.randint(len(actions), (batch_size,), generator=random)
        aim = goals[index]
        if hindsight:
            later = index + 1 + (torch.rand(batch_size, generator=random) * (last[index] - index)).long()
            aim = observations[torch.minimum(later, last[index]), : goals.shape[1]]
        loss = (actor(torch.cat([observations[index], aim], dim=1)) - actions[index]).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return ActorAgent(actor.eval(), goal)


def _new_actor(observations: Tensor, actions: Tensor, hidden: int, seed: int) -> Actor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        limit = actions.abs().amax(dim=0).clamp_min(1e-3)
        return Actor(observations.mean(dim=0), observations.std(dim=0), limit, hidden)


class TD3BC:
    """TD3+BC: π = argmax E[λ Q(o, π(o)) - (π(o) - a)²], λ = α / mean |Q|; twin critics, target smoothing, delay 2.

    Args:
        real: transitions of the data; they also fix the scaling.
        alpha: weight of Q against cloning.
        discount: γ.
        hidden: units per layer.
        learning_rate: of Adam, for actor and critics.
        seed: of weights and batches.
    """

    def __init__(
        self, real: Transitions, *, alpha: float = 2.5, discount: float = 0.99, hidden: int = 128,
        learning_rate: float = 3e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        self.real, self.alpha, self.discount = real, alpha, discount
        self.random = torch.Generator().manual_seed(seed)
        self.actor = _new_actor(real.observations, real.actions, hidden, seed)
        size = real.observations.shape[1] + real.actions.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.critics = nn.ModuleList([_mlp(size, 1, hidden), _mlp(size, 1, hidden)])
        self.actor_target, self.critics_target = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), learning_rate)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), learning_rate)
        self.updates = 0

    def _q(self, critics: nn.ModuleList, observation: Tensor, action: Tensor) -> list[Tensor]:
        scaled = (observation - self.actor.mean) / self.actor.std
        inputs = torch.cat([scaled, action / self.actor.limit], dim=-1)
        return [critic(inputs)[..., 0] for critic in critics]

    def train(
        self, steps: int, synthetic: Transitions | None = None, share: float = 240 / 256, batch_size: int = 256
    ) -> None:
        """``steps`` updates on batches of which ``share`` is synthetic (where there is any)."""
        if not 0 <= share <= 1:
            raise AnydiffError(f"share is {share}, but must lie in [0, 1]: the synthetic part of each batch.")
        made = round(batch_size * share) if synthetic is not None else 0
        for _ in range(natural_number("steps", steps)):
            batch = self._draw(self.real, batch_size - made)
            if synthetic is not None and made:
                other = self._draw(synthetic, made)
                names = Transitions.__dataclass_fields__
                batch = Transitions(*(torch.cat([getattr(batch, n), getattr(other, n)]) for n in names))
            self._update(batch)

    def _draw(self, source: Transitions, count: int) -> Transitions:
        return source.rows(torch.randint(len(source), (count,), generator=self.random))

    def _update(self, batch: Transitions) -> None:
        with torch.no_grad():
            noise = torch.randn(batch.actions.shape, generator=self.random)
            smooth = (0.2 * noise).clamp(-0.5, 0.5) * self.actor.limit
            action = torch.clamp(
                self.actor_target(batch.following) + smooth, min=-self.actor.limit, max=self.actor.limit
            )
            target = torch.minimum(*self._q(self.critics_target, batch.following, action))
            target = batch.rewards + self.discount * (1 - batch.terminals) * target
        first, second = self._q(self.critics, batch.observations, batch.actions)
        loss = (first - target).square().mean() + (second - target).square().mean()
        self.critic_optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.critic_optimizer.step()
        self.updates += 1
        if self.updates % 2 == 0:
            self._improve(batch)

    def _improve(self, batch: Transitions) -> None:
        action = self.actor(batch.observations)
        q = self._q(self.critics, batch.observations, action)[0]
        cloning = ((action - batch.actions) / self.actor.limit).square().mean()
        loss = cloning - self.alpha * q.mean() / q.abs().mean().detach().clamp_min(1e-6)
        self.actor_optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.actor_optimizer.step()
        with torch.no_grad():
            for ours, theirs in ((self.actor, self.actor_target), (self.critics, self.critics_target)):
                for new, old in zip(ours.parameters(), theirs.parameters(), strict=True):
                    old.lerp_(new, 0.005)

    def agent(self) -> ActorAgent:
        """The current policy as an agent."""
        return ActorAgent(self.actor)
