"""Sequences drawn by a draft and verified by a target, causally: the law is the target's (CSpD, arXiv:2411.11925).

The draft proposes several positions, each given those before. The target looks at all of them in one pass and keeps
them up to and including the first that it replaces; where all stand it draws one more by itself. Keeping later ones, as
the released code does, would give another joint law: they were proposed given what has been replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from anydiff.autoregressive.speculative import TRIES, Densities, Numbers, check_temperature, judged
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import derived_seed
from anydiff.states.streams import standard_normal, uniform


class Chain(Protocol):
    """A model of sequences, position by position: one pass gives what the laws of several positions depend on."""

    length: int

    def hidden(self, values: Tensor, positions: Tensor) -> Tensor:
        """Of each row's positions int64 ``[B, m]`` what their laws need, ``[B, m, ...]``, given ``values [B, L, C]``
        before each of them: one pass."""
        ...

    def draw(self, hidden: Tensor, noise: Tensor) -> Tensor:
        """Elements ``[B, C]`` from ``hidden [B, ...]`` and standard normal noise ``[B, C]``."""
        ...

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """log-density ``[B]`` of elements ``x [B, C]``."""
        ...


@dataclass(frozen=True)
class Speculated:
    """Sequences and what they took.

    Attributes:
        values: ``[B, L, C]``, of the target's law.
        passes: int64 ``[B]``: passes of the target per sequence.
        proposed: int64 ``[B]``: positions that the draft proposed and the target looked at.
        accepted: int64 ``[B]``: those that stood.
    """

    values: Tensor
    passes: Tensor
    proposed: Tensor
    accepted: Tensor


def speculate(
    target: Chain, draft: Chain, samples: Sequence[int], channels: int = 1, *,
    seed: int = 0, draft_length: int = 4, temperature: float = 1.0, tries: int = TRIES,
) -> Speculated:  # fmt: skip
    """Draw the sequences with these sample indices.

    Sample k of a seed depends on (seed, k) alone: all numbers are keyed by (sample, position), and each row advances by
    itself.

    Args:
        target: whose law comes out.
        draft: a cheap model of the same sequences.
        samples: the index of each sequence.
        channels: C.
        seed: whole number.
        draft_length: positions that the draft proposes at a time.
        temperature: of the acceptance; see :func:`~anydiff.autoregressive.speculative.verify`.
        tries: draws of the target for a residual.

    Raises:
        AnydiffError: target and draft are of different lengths, or an option is out of range.
    """
    if target.length != draft.length:
        raise AnydiffError(
            f"the target has {target.length} positions, the draft {draft.length}; give models of the same sequences."
        )
    check_temperature(temperature)
    run = _Run(target, draft, samples, channels, seed, natural_number("draft_length", draft_length))
    while bool((run.done < target.length).any()):
        run.round(temperature, tries)
    return Speculated(run.values, run.passes, run.proposed, run.accepted)


class _Run:
    """The rows of one call, each at its own position."""

    def __init__(
        self, target: Chain, draft: Chain, samples: Sequence[int], channels: int, seed: int, ahead: int
    ) -> None:
        self.target, self.draft, self.samples, self.ahead = target, draft, list(samples), ahead
        count, self.length, self.channels = len(self.samples), target.length, channels
        self.seed = seed
        self.values = torch.zeros(count, self.length, channels, dtype=torch.float64)
        self.done, self.passes, self.proposed, self.accepted = (torch.zeros(count, dtype=torch.int64) for _ in range(4))

    def round(self, temperature: float, tries: int) -> None:
        """One proposal and one pass of the target, in the rows that are not finished."""
        rows = (self.done < self.length).nonzero().flatten()
        begin = self.done[rows]
        values = self.values[rows]
        ahead = torch.arange(self.ahead)
        places = begin[:, None] + ahead  # beyond the end nothing is proposed
        inside = places < self.length
        hidden = []
        for step in range(self.ahead):
            at = places[:, step : step + 1].clamp(max=self.length - 1)
            told = self.draft.hidden(values, at)[:, 0]
            hidden.append(told)
            made = self.draft.draw(told, self._normal(rows, at[:, 0], "draft"))
            values = _put(values, at[:, 0], made, inside[:, step])
        seen = torch.cat([places, begin[:, None] + self.ahead], dim=1).clamp(max=self.length - 1)
        told = self.target.hidden(values, seen)
        self.passes[rows] += 1
        standing = torch.ones(len(rows), dtype=torch.bool)
        for step in range(self.ahead):
            here = standing & inside[:, step]
            if not bool(here.any()):
                continue
            laws = (told[:, step], hidden[step])
            values, kept = self._judge(rows, values, seen[:, step], here, laws, (temperature, tries))
            self.proposed[rows] += here
            self.accepted[rows] += here & kept
            self.done[rows] += here
            standing = here & kept
        more = standing & inside[:, -1] & (begin + self.ahead < self.length)
        extra = self.target.draw(told[:, -1], self._normal(rows, seen[:, -1], "target"))
        values = _put(values, seen[:, -1], extra, more)
        self.done[rows] += more
        self.values[rows] = values

    def _judge(
        self, rows: Tensor, values: Tensor, at: Tensor, here: Tensor, hidden: tuple[Tensor, Tensor],
        rule: tuple[float, int],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Verify the position ``at`` of the rows ``here``; returns the values, and where the proposal stands."""
        chosen = here.nonzero().flatten()
        told, guessed = (each[chosen] for each in hidden)
        who, where = rows[chosen], at[chosen]
        pair = Densities(
            lambda x: self.target.log_prob(told, x),
            lambda x: self.draft.log_prob(guessed, x),
            lambda attempt: self.target.draw(told, self._normal(who, where, f"residual/{attempt}")),
        )
        numbers = Numbers(lambda number: self._uniform(who, where, f"{number}"), *rule)
        verdict = judged(pair, values[chosen, where], numbers)
        values = values.clone()
        values[chosen, where] = verdict.values
        kept = torch.zeros_like(here)
        kept[chosen] = verdict.accepted
        return values, kept

    def _normal(self, rows: Tensor, places: Tensor, purpose: str) -> Tensor:
        """Noise ``[B, C]`` keyed by (sample, position)."""
        drawn = torch.empty(len(rows), self.channels, dtype=torch.float64)
        for place in sorted(set(places.tolist())):
            here = (places == place).nonzero().flatten()
            samples = [self.samples[row] for row in rows[here].tolist()]
            seed = derived_seed(self.seed, f"speculation/{purpose}")
            drawn[here] = torch.from_numpy(standard_normal(seed, samples, place, "token", (self.channels,)))
        return drawn

    def _uniform(self, rows: Tensor, places: Tensor, purpose: str) -> Tensor:
        """Numbers in (0, 1), ``[B]``, keyed by (sample, position)."""
        drawn = torch.empty(len(rows), dtype=torch.float64)
        for place in sorted(set(places.tolist())):
            here = (places == place).nonzero().flatten()
            samples = [self.samples[row] for row in rows[here].tolist()]
            drawn[here] = uniform(derived_seed(self.seed, f"speculation/{purpose}"), samples, place, "accept")
        return drawn


def _put(values: Tensor, at: Tensor, made: Tensor, rows: Tensor) -> Tensor:
    """``values [B, L, C]`` with ``made [B, C]`` at position ``at`` of the ``rows``."""
    out = values.clone()
    chosen = rows.nonzero().flatten()
    out[chosen, at[chosen]] = made[chosen].to(values)
    return out
