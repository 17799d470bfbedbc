r"""Speculative drawing: a cheap draft proposes, the target accepts or replaces, and the law is the target's.

A proposal x of the draft's law q is kept with probability min(1, p(x)/q(x)). Else it is replaced by a draw of the
residual law, proportional to (p - q)_+, which is drawn with the target as envelope: z ~ p is kept with probability
(1 - q(z)/p(z))_+. What comes out has the law p, and a proposal is kept with probability 1 - TV(p, q) (Leviathan et al.
2023, arXiv:2211.17192; for densities Wang et al. 2024, arXiv:2411.11925).

Everything is computed in logarithms: a ratio of densities of a thousand numbers would not fit any float. A draw of a
diffusion has no density of its own, so the whole *path* from noise to sample is what is proposed and accepted
(:mod:`anydiff.autoregressive.paths`).
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number

X = TypeVar("X")

TRIES = 500
"""Draws of the target from which a residual is sought; the one after them is taken as it is."""


class Pair(ABC, Generic[X]):
    """Target and draft of the same rows; ``X`` is what is proposed: numbers, classes, or whole paths."""

    @abstractmethod
    def log_ratio(self, x: X) -> Tensor:
        """log p(x) - log q(x), float64 ``[B]``; infinite where one of them is zero."""

    @abstractmethod
    def redraw(self, attempt: int) -> X:
        """A draw of the target for each row, others for every attempt (0, 1, ...)."""

    @abstractmethod
    def where(self, rows: Tensor, x: X, other: X) -> X:
        """``x`` in the rows where ``rows`` (bool ``[B]``) says so, else ``other``."""


@dataclass(frozen=True)
class Verdict(Generic[X]):
    """What stands of a proposal.

    Attributes:
        values: of the target's law.
        accepted: bool ``[B]``: where it is the proposal.
        tries: int64 ``[B]``: draws of the target that the residual took, 0 where the proposal stands.
    """

    values: X
    accepted: Tensor
    tries: Tensor


def verify(
    pair: Pair[X], proposal: X, uniform: Callable[[int], Tensor], *, temperature: float = 1.0, tries: int = TRIES
) -> Verdict[X]:
    """Accept or replace a proposal of the draft in each row.

    Args:
        pair: target and draft.
        proposal: one draw of the draft per row.
        uniform: numbers in (0, 1), float64 ``[B]``: of 0 for the acceptance, of k + 1 for attempt k of the residual;
            keyed by the rows' own streams.
        temperature: divides the log-ratio; 1 keeps the target's law, any other value does not, and warns.
        tries: draws of the target from which the residual is sought. Where all are refused, a fresh draw of the target
            is taken, never anything else.

    Raises:
        AnydiffError: a ratio is NaN, or an option is out of range.
    """
    check_temperature(temperature)
    return judged(pair, proposal, Numbers(uniform, temperature, natural_number("tries", tries)))


@dataclass(frozen=True)
class Numbers:
    """How a proposal is judged: ``uniform``, ``temperature`` and ``tries`` of :func:`verify`."""

    uniform: Callable[[int], Tensor]
    temperature: float = 1.0
    tries: int = TRIES


def judged(pair: Pair[X], proposal: X, numbers: Numbers) -> Verdict[X]:
    """As :func:`verify`, without a warning: for whoever judges many proposals and has warned once."""
    uniform, temperature, tries = numbers.uniform, numbers.temperature, numbers.tries
    ratio = _checked(pair.log_ratio(proposal)) / temperature
    accepted = uniform(0).log() < ratio
    values, left = proposal, ~accepted
    taken = torch.zeros(len(accepted), dtype=torch.int64)
    for attempt in range(tries):
        if not bool(left.any()):
            return Verdict(values, accepted, taken)
        found = pair.redraw(attempt)
        taken += left.cpu()
        # log(1 - q/p) where p > q, else never.
        inverse = -_checked(pair.log_ratio(found)) / temperature
        chance = torch.where(inverse < 0, torch.log(-torch.expm1(inverse.clamp(max=0.0))), -math.inf)
        kept = left & (uniform(attempt + 1).log() < chance)
        values, left = pair.where(kept, found, values), left & ~kept
    if bool(left.any()):
        values = pair.where(left, pair.redraw(tries), values)
    return Verdict(values, accepted, taken)


def check_temperature(temperature: float) -> None:
    """Warn of an acceptance temperature that changes the law.

    Raises:
        AnydiffError: it is not positive.
    """
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise AnydiffError(f"temperature is {temperature!r}, but must be a positive number; 1 keeps the target's law.")
    if temperature != 1:
        warnings.warn(
            f"acceptance temperature is {temperature:g}: what comes out is no longer of the target's law, but closer "
            "to the draft's the larger it is; 1 keeps it.",
            stacklevel=3,
        )


def _checked(ratio: Tensor) -> Tensor:
    if bool(torch.isnan(ratio).any()):
        row = int(torch.isnan(ratio).nonzero()[0])
        raise AnydiffError(f"the log-ratio of row {row} is NaN; target and draft must be finite where they propose.")
    return ratio


class Densities(Pair[Tensor]):
    """Laws of numbers ``[B, C]`` (or classes ``[B]``) with log-densities.

    Args:
        log_target: x -> log p(x) ``[B]``.
        log_draft: x -> log q(x) ``[B]``.
        draw: attempt -> a draw of the target per row.
    """

    def __init__(
        self,
        log_target: Callable[[Tensor], Tensor],
        log_draft: Callable[[Tensor], Tensor],
        draw: Callable[[int], Tensor],
    ) -> None:
        self.log_target, self.log_draft, self.draw = log_target, log_draft, draw

    def log_ratio(self, x: Tensor) -> Tensor:
        """See :meth:`Pair.log_ratio`."""
        return self.log_target(x).double() - self.log_draft(x).double()

    def redraw(self, attempt: int) -> Tensor:
        """See :meth:`Pair.redraw`."""
        return self.draw(attempt)

    def where(self, rows: Tensor, x: Tensor, other: Tensor) -> Tensor:
        """See :meth:`Pair.where`."""
        return torch.where(rows.reshape(-1, *[1] * (x.ndim - 1)), x, other)


class Tables(Densities):
    """Laws of classes as tables of log-probabilities ``[B, K]``: standard speculative sampling.

    Args:
        log_target: log p.
        log_draft: log q.
        uniform: attempt -> numbers in (0, 1), ``[B]``, of which the target is drawn by inverse CDF.

    Raises:
        AnydiffError: tables of different shapes.
    """

    def __init__(self, log_target: Tensor, log_draft: Tensor, uniform: Callable[[int], Tensor]) -> None:
        if log_target.shape != log_draft.shape:
            raise AnydiffError(
                f"the target's table has shape {tuple(log_target.shape)}, the draft's {tuple(log_draft.shape)}; both "
                "must be of the same rows and classes."
            )
        p, q = (table.double().log_softmax(-1) for table in (log_target, log_draft))

        def of(table: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda x: table.gather(-1, x[:, None])[:, 0]

        super().__init__(of(p), of(q), lambda attempt: inverse_cdf(p, uniform(attempt)))


def inverse_cdf(log_table: Tensor, uniform: Tensor) -> Tensor:
    """Classes ``[B]`` of log-probabilities ``[B, K]`` by one number in (0, 1) each."""
    cumulated = log_table.double().exp().cumsum(-1)
    # The last sum may round below 1: the last class of positive probability takes what is left.
    scaled = uniform.double()[:, None] * cumulated[:, -1:]
    return (cumulated <= scaled).sum(-1).clamp(max=log_table.shape[-1] - 1)
