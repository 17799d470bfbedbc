"""Temporal networks: a U-Net over time with what plans need beside it (inverse dynamics, rollouts, values)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks import ConditionEmbedding, UNet
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, Known, StateSpec
from anydiff_trajectories.layout import Layout

HEADS = ("inverse", "rollout", "value")


class Planner(nn.Module):
    """U-Net over time that sees known starts and goals clean: ``[B, horizon, width] -> [B, horizon, width]``.

    Where ``start`` (or ``goal``) is given, the first (last) observation of the input is replaced by it, and a column
    per state column tells the network which entries are known (Diffuser, Janner et al. 2022, keeps them clean in
    training and sampling alike). The U-Net is convolutional, so a trained one also plans with other horizons.

    Heads, each trained by :class:`anydiff_trajectories.objective.Planning` beside the denoiser:

    - ``inverse``: inverse dynamics a = f(o, o'), by which a controller follows planned observations. Where the actions
      are hidden from the U-Net (``hide``), as in Decision Diffuser, their prediction is f of the predicted
      observations; the network must then predict the data.
    - ``rollout``: the autoregressive model of Trajectory Diffuser.
    - ``value``: J(x_t, λ), Diffuser's value of a noisy plan.

    Args:
        spec: the state, ``(horizon, width)``.
        conditions: name -> condition; ``start`` and ``goal`` enter as known entries, the others by embedding.
        parts: name -> columns of a row, see :class:`~anydiff_trajectories.layout.Layout`.
        channels: of the U-Net's first level.
        multipliers: of the U-Net's levels.
        blocks: residual blocks per level.
        patch_size: rows of time that are one position of the U-Net.
        attention_levels: levels with self-attention (none keeps the network local in time).
        heads: which of the above.
        hidden: hidden units of the heads.
        hide: parts the U-Net neither sees nor predicts (their prediction is zero, but for actions by ``inverse``).
        unread: conditions that are for the heads alone.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        parts: Mapping[str, int] | None = None,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        patch_size: int = 1,
        attention_levels: Sequence[int] = (),
        heads: Sequence[str] = (),
        hidden: int = 128,
        hide: Sequence[str] = (),
        unread: Sequence[str] = (),
    ) -> None:
        super().__init__()
        conditions = dict(conditions or {})
        self.layout = Layout({"observation": spec.shape[-1]} if parts is None else parts)
        if len(spec.shape) != 2 or spec.shape[1] != self.layout.width:
            raise AnydiffError(
                f"states have shape {tuple(spec.shape)}, but parts make rows of {self.layout.width} columns; correct "
                "parts."
            )
        for head in heads:
            if head not in HEADS:
                raise UnknownNameError("head", head, HEADS)
        self.ends = {name: conditions[name].size for name in ("start", "goal") if name in conditions}  # type: ignore[union-attr]
        self.horizon = spec.shape[0]
        self.unread = tuple(unread)
        self.read = [name for name in conditions if name not in self.ends and name not in self.unread]
        self.reads_conditions = (*self.ends, *self.read)
        embedded = {name: conditions[name] for name in self.read}
        seen = torch.ones(self.layout.width, dtype=torch.bool)
        for part in hide:
            seen[self.layout[part]] = False
        self.seen: Tensor
        self.register_buffer("seen", seen, persistent=False)
        width = self.layout.width * (2 if self.ends else 1)
        self.unet = UNet(
            StateSpec.single((width, spec.shape[0])), embedded, channels=channels, multipliers=multipliers,
            blocks=blocks, patch_size=patch_size, attention_levels=attention_levels,
        )  # fmt: skip
        observation = self.layout.size("observation")
        action = self.layout.size("action") if "action" in self.layout else 0
        if "inverse" in heads and not action:
            raise AnydiffError("the head 'inverse' gives actions, but parts holds no action; add it.")
        self.inverse = InverseDynamics(observation, action, hidden) if "inverse" in heads else None
        self.fills_actions = self.inverse is not None and "action" in hide
        self.value = Value(self.layout.width, hidden) if "value" in heads else None
        returns = "return" in self.layout
        goal = self.ends.get("goal", 0)
        self.rollout = Rollout(observation, goal, returns, hidden) if "rollout" in heads else None

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Native prediction ``[B, horizon, width]`` from the scaled state and λ ``[B]``."""
        x, mask = self.with_known(x * self.seen, condition)
        rest = condition.without((*self.ends, *self.unread))
        channels = torch.cat([x, mask.to(x.dtype)], dim=-1) if self.ends else x
        # The U-Net notes the length it was made for; a convolution does not care.
        self.unet.shape = (channels.shape[2], channels.shape[1])
        wide: Tensor = self.unet(channels.transpose(1, 2), log_snr, rest).transpose(1, 2)
        out = wide[..., : self.layout.width] * self.seen
        if self.inverse is None or not self.fills_actions:
            return out
        observation = out[..., self.layout["observation"]]
        actions = self.inverse(observation[:, :-1], observation[:, 1:])
        full = torch.zeros_like(out)
        full[..., self.layout["action"]] = functional.pad(actions, (0, 0, 0, 1)).to(out.dtype)
        return out + full

    @property
    def heads(self) -> Mapping[str, Callable[..., Any]]:
        """What it offers to objectives: ``entries``, and the heads that it was built with, by their names."""
        offered: dict[str, Callable[..., Any]] = {"entries": self._entries}
        if self.inverse is not None:
            offered["inverse"] = self._inverse_pairs
        if self.rollout is not None:
            offered["rollout"] = self._rollout_pairs
        if self.value is not None:
            offered["value"] = self.value_of
        return offered

    def _entries(self, clean: Tensor, condition: Conditioning, first_action_weight: float) -> Tensor:
        """Weights ``[B, horizon, width]`` of the denoising error: 0 where an entry is known or hidden."""
        _, known = self.with_known(clean, condition)
        weight = (~known & self.seen).to(clean.dtype)
        if "action" in self.layout and first_action_weight != 1.0:
            weight[:, 0, self.layout["action"]] *= first_action_weight
        return weight

    def _inverse_pairs(self, clean: Tensor, condition: Conditioning) -> tuple[Tensor, Tensor]:
        """(f(o_k, o_{k+1}), a_k) ``[B, horizon - 1, d_a]`` of clean rows."""
        assert self.inverse is not None
        observation = clean[..., self.layout["observation"]]
        return self.inverse(observation[:, :-1], observation[:, 1:]), clean[:, :-1, self.layout["action"]]

    def _rollout_pairs(self, clean: Tensor, condition: Conditioning) -> tuple[Tensor, Tensor]:
        """(g(o_1..o_k, R_1..R_k), (o_{k+1}, R_{k+1})) ``[B, horizon - 1, d_o (+ 1)]`` of clean rows."""
        assert self.rollout is not None
        rows = clean[..., self.layout["observation"]]
        if self.rollout.returns:
            rows = torch.cat([rows, clean[..., self.layout["return"]]], dim=-1)
        return self.rollout(rows[:, :-1], condition.given.get("goal")), rows[:, 1:]

    def value_of(self, x: Tensor, log_snr: Tensor, condition: Conditioning) -> Tensor:
        """J(x_t, λ) ``[B]`` of a noisy plan ``[B, horizon, width]``, the given start and goal in place.

        The head reads x_t / sqrt(1 + exp(-2λ)), for a variance-preserving path α x_t, which is E[x_0 | x_t] of data of
        unit variance, beside the known entries as they are. So its gradient by x_t vanishes with α as that of the exact
        value does; a head that read x_t itself would have one of any size at high noise, where σ²/α multiplies it.

        Raises:
            AnydiffError: the network has no value head.
        """
        if self.value is None:
            raise AnydiffError("this network has no value head; train one with network.options.heads: [value].")
        shrunk = x * torch.sigmoid(2 * log_snr).sqrt()[:, None, None].to(x.dtype)
        seen, _ = self.with_known(shrunk, condition)
        values: Tensor = self.value(seen, log_snr)
        return values

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """The given start and goal, which it sees in place, in training as in sampling; None without either."""
        given = [condition.given[name] for name in self.ends if name in condition.given]
        if not given:
            return None
        rows = torch.zeros(len(given[0]), self.horizon, self.layout.width, device=given[0].device)
        return Known(*self.with_known(rows, condition))

    def with_known(self, x: Tensor, condition: Conditioning) -> tuple[Tensor, Tensor]:
        """``x`` with the given start and goal in place, and which entries they are (bool of the same shape)."""
        mask = torch.zeros_like(x, dtype=torch.bool)
        known = torch.zeros_like(x)
        first = self.layout["observation"].start
        for name, size in self.ends.items():
            value = condition.given.get(name)
            if value is None:
                continue
            if value.shape != (x.shape[0], size):
                raise AnydiffError(
                    f"condition {name!r} has shape {tuple(value.shape)}, but must be ({x.shape[0]}, {size})."
                )
            row, columns = 0 if name == "start" else x.shape[1] - 1, slice(first, first + size)
            mask[:, row, columns] = condition.presence(name)[:, None]
            known[:, row, columns] = value.to(x.dtype)
        return torch.where(mask, known, x), mask


class InverseDynamics(nn.Module):
    """a = f(o, o'): two hidden layers (Ajay et al. 2023, arXiv:2211.15657); all normalised."""

    def __init__(self, observation: int, action: int, hidden: int) -> None:
        super().__init__()
        natural_number("hidden", hidden)
        self.layers = nn.Sequential(
            nn.Linear(2 * observation, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, action),
        )  # fmt: skip

    def forward(self, observation: Tensor, after: Tensor) -> Tensor:
        """Actions ``[..., d_a]`` between observations ``[..., d_o]``."""
        return self.layers(torch.cat([observation, after], dim=-1))  # type: ignore[no-any-return]


class Value(nn.Module):
    """J(y, λ): the expected return of a plan of which y is the shrunk noisy state (:meth:`Planner.value_of`).

    ``[B, horizon, width], [B] -> [B]``; any horizon.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conditioning = ConditionEmbedding({}, hidden)
        self.entry = nn.Conv1d(width, hidden, 5, stride=2, padding=2)
        self.middle = nn.Conv1d(hidden, hidden, 5, stride=2, padding=2)
        self.exit = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """J ``[B]``."""
        embedding = self.conditioning(log_snr, x.shape[0], UNCONDITIONAL)
        hidden = functional.silu(self.entry(x.transpose(1, 2)) + embedding[:, :, None])
        hidden = functional.silu(self.middle(hidden))
        value: Tensor = self.exit(hidden.mean(dim=2))[:, 0]
        return value


class Rollout(nn.Module):
    """(o_1..o_h, goal, R_1..R_h) -> (o_{h+1}, R_{h+1}): a GRU that predicts the change of the observation.

    The autoregressive model of Trajectory Diffuser (Huang et al. 2024, arXiv:2407.16142); all normalised.
    """

    def __init__(self, observation: int, goal: int, returns: bool, hidden: int) -> None:
        super().__init__()
        self.observation, self.goal, self.returns = observation, goal, returns
        extra = 1 if returns else 0
        self.cell = nn.GRU(observation + goal + extra, hidden, batch_first=True)
        self.exit = nn.Linear(hidden, observation + extra)

    def _step(self, row: Tensor, goal: Tensor | None, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = row
        if self.goal:
            given = row.new_zeros(row.shape[0], self.goal) if goal is None else goal
            inputs = torch.cat([row, given[:, None].expand(-1, row.shape[1], -1)], dim=-1)
        hidden, memory = self.cell(inputs, memory)
        return row + self.exit(hidden), memory

    def forward(self, rows: Tensor, goal: Tensor | None = None) -> Tensor:
        """One-step predictions of rows 2..h+1 from rows 1..h ``[B, h, d_o (+1)]`` (teacher forcing)."""
        return self._step(rows, goal, None)[0]

    @torch.no_grad()
    def generate(self, history: Tensor, steps: int, goal: Tensor | None = None) -> Tensor:
        """``history [B, h, d_o (+1)]`` continued by ``steps`` rows: ``[B, h + steps, ...]``."""
        predicted, memory = self._step(history, goal, None)
        rows = [history]
        last = predicted[:, -1:]
        for step in range(steps):
            rows.append(last)
            if step + 1 < steps:
                last, memory = self._step(last, goal, memory)
        return torch.cat(rows, dim=1)
