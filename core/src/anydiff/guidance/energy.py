r"""Energies of whole states: what a prediction of independent entries misses is drawn by importance (EDLM).

A denoiser of classes predicts every entry by itself, p(x_0 | x_t) ≈ q = Π_i p(x_0^i | x_t), which is wrong where
several entries change in one step. With an energy of whole states the law is q(x_0 | x_t) exp(-E(x_0, x_t))/Z. It is
drawn by k candidates from q, of which one is taken with the probability exp(-E) over their sum (Xu et al. 2024,
arXiv:2410.21357; the released code weighs by exp(+E), against the sign of its own training). The one that is taken is
handed on as a certain prediction, so that every solver of classes is a sampler of the corrected law. For k to infinity
and the exact energy, one step draws from the exact joint law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, NonFiniteError, natural_number
from anydiff.paths.categorical import categorical
from anydiff.states import Conditioning, uniform
from anydiff.states.classes import draw_class

TIMES = 2**40
"""Draws are keyed by the time in units of 1/TIMES, so that a prediction is a function of its row, seed and time."""


class EnergyFunction(Protocol):
    """E of whole states: low where the model finds them likely."""

    def __call__(
        self, candidates: Tensor, log_proposal: Tensor, x: Tensor, t: float, condition: Conditioning
    ) -> Tensor:
        """Energies ``[B, k]``.

        Args:
            candidates: clean classes ``[B, k, *shape]``.
            log_proposal: log q of each, float64 ``[B, k]``.
            x: the noised states ``[B, *shape]``.
            t: their time.
            condition: of the rows.
        """


@dataclass
class EnergyRecord:
    """What a guidance did, over all runs of one object.

    Attributes:
        calls: predictions that were corrected.
        energies: candidates whose energy was computed; calls of the denoiser are counted elsewhere.
        effective: sum over corrected rows of the effective number of candidates, 1/Σ w².
        rows: corrected rows.
    """

    calls: int = 0
    energies: int = 0
    effective: float = 0.0
    rows: int = 0

    @property
    def effective_candidates(self) -> float:
        """The mean effective number of candidates, between 1 and k; NaN before the first call."""
        return self.effective / self.rows if self.rows else math.nan


@dataclass(frozen=True)
class Energy(Wrapper):
    """One of ``candidates`` whole predictions, by the weights exp(-E/temperature); with one it changes nothing.

    Candidates are drawn anew in every step, from numbers of the sample's own (seed, index, time). Put it outside of
    ``unchanged`` and of what cuts or sharpens logits, whose result is then the proposal.

    Attributes:
        candidates: k, whole number of at least 1.
        window: (low, high), times between which predictions are corrected.
        temperature: positive.
        model: recipe, run folder or weights file of the model that gives the energy: one with an ``energy``, or one
            that is autoregressive.
        model_hash: of the weights that the model must have; any where it is empty.
        carry_over: of an autoregressive model, see :class:`AutoregressiveEnergy`.
        energy: the function itself, in place of ``model``.
        seed: of the draws; a sampler sets it.

    Raises:
        AnydiffError: an option out of range.
    """

    candidates: int = 2
    window: tuple[float, float] = (0.0, 1.0)
    temperature: float = 1.0
    model: str | None = None
    model_hash: str = ""
    carry_over: bool = False
    energy: EnergyFunction | None = field(default=None, compare=False)
    seed: int = 0
    samples: tuple[int, ...] = field(default=(), repr=False, compare=False)
    record: EnergyRecord = field(default_factory=EnergyRecord, repr=False, compare=False)

    def __post_init__(self) -> None:
        natural_number("candidates", self.candidates)
        if len(self.window) != 2 or not 0 <= self.window[0] < self.window[1] <= 1:
            raise AnydiffError(f"window is {self.window}, but must be two times 0 <= low < high <= 1.")
        if not 0 < self.temperature < math.inf:
            raise AnydiffError(f"temperature is {self.temperature}, but must be positive and finite; 1 is the law.")

    def for_seed(self, seed: int) -> Wrapper:
        """The same with draws of ``seed``."""
        return replace(self, seed=seed)

    def for_run(self, samples: Sequence[int]) -> Wrapper:
        """The same for these samples; the record is shared."""
        return replace(self, samples=tuple(samples))

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The prediction of ``kind`` that is certain of the candidate that was taken.

        Raises:
            AnydiffError: no energy is given, energies of another shape, or times that differ between rows.
            NonFiniteError: an energy is NaN, or none of a row is finite.
        """
        categorical(denoiser.path, "the guidance 'energy'")
        time = _one_time(t)
        if self.candidates == 1 or not self.window[0] <= time <= self.window[1]:
            return denoiser.predict(x, t, kind, condition)
        logits = denoiser.predict(x, t, "logits", condition)
        index = self._index(x, condition)
        candidates, log_proposal = self.proposals(logits, index, time)
        weights = self._weights(candidates, log_proposal, x, time, condition)
        chosen = draw_class(torch.log(weights), self._numbers(index, time, "choice", ()).to(x.device))
        taken = candidates[torch.arange(len(x), device=x.device), chosen]
        certain = torch.full_like(logits, -torch.inf).scatter(-1, taken[..., None], 0.0)
        return convert(denoiser, x, t, certain, "logits", kind, condition)

    def proposals(self, logits: Tensor, index: Sequence[int], t: float) -> tuple[Tensor, Tensor]:
        """Candidates ``[B, k, *shape]`` from ``logits [B, *shape, K]`` and their log q, float64 ``[B, k]``."""
        shape, flat = logits.shape[1:-1], logits.flatten(0, -2)
        drawn = self._numbers(index, t, "candidates", (self.candidates, *shape)).to(logits.device)
        log_share = torch.log_softmax(logits.double(), dim=-1)
        found, chances = [], []
        for number in range(self.candidates):
            made = draw_class(flat, drawn[:, number].flatten()).reshape(len(logits), *shape)
            found.append(made)
            chances.append(log_share.gather(-1, made[..., None]).flatten(1).sum(1))
        return torch.stack(found, dim=1), torch.stack(chances, dim=1)

    def _weights(self, candidates: Tensor, log_proposal: Tensor, x: Tensor, t: float, given: Conditioning) -> Tensor:
        """exp(-E) over their sum, float64 ``[B, k]``."""
        if self.energy is None:
            raise AnydiffError(
                "the guidance 'energy' has no energy; give the option model (a recipe, run folder or weights file) "
                "and sample by a pipeline, or the option energy, a function."
            )
        found = self.energy(candidates, log_proposal, x, t, given)
        if tuple(found.shape) != tuple(candidates.shape[:2]):
            raise AnydiffError(
                f"the energy gives {tuple(found.shape)} for {candidates.shape[1]} candidates of {len(x)} states, but "
                f"must give {tuple(candidates.shape[:2])}: one number for each candidate."
            )
        logits = -found.double() / self.temperature
        bad = ~logits.amax(1).isfinite()  # the greatest of some NaN is NaN
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise NonFiniteError(
                f"the energies of row {row} at t={t:g} are {found[row].tolist()}, of which none can be chosen; check "
                "the energy's network, or sample in float32."
            )
        weights = torch.softmax(logits, dim=1)
        self.record.calls, self.record.rows = self.record.calls + 1, self.record.rows + len(x)
        self.record.energies += candidates.shape[0] * candidates.shape[1]
        self.record.effective += float((1 / weights.square().sum(1)).sum())
        return weights

    def _numbers(self, index: Sequence[int], t: float, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return uniform(self.seed, index, round(t * TIMES), f"energy/{purpose}", shape)

    def _index(self, x: Tensor, condition: Conditioning) -> list[int]:
        """The number of each row in its sample set."""
        if condition.index is not None:
            return [int(number) for number in condition.index]
        return list(self.samples) if len(self.samples) == len(x) else list(range(len(x)))


@dataclass(frozen=True)
class AutoregressiveEnergy:
    """E = log q(x_0 | x_t) - log p(x_0) of an autoregressive model, whose law the samples then have.

    Attributes:
        denoiser: causal: its logits at a place depend on the places before it.
        carry_over: score only the masks of x_t, each given its true left context: Z = 1, but not the model's own
            conditional given what stands on the right.

    Raises:
        AnydiffError: a denoiser that is not causal.
    """

    denoiser: Denoiser
    carry_over: bool = False

    def __post_init__(self) -> None:
        if not self.denoiser.causal:
            raise AnydiffError(
                "an autoregressive energy needs a model whose network is causal, which this one is not; train one with "
                "the objective next-token, or take an energy that was trained by noise-contrastive."
            )

    def __call__(
        self, candidates: Tensor, log_proposal: Tensor, x: Tensor, t: float, condition: Conditioning
    ) -> Tensor:
        """See :class:`EnergyFunction`."""
        rows, count = candidates.shape[:2]
        states = candidates.flatten(0, 1)
        given = condition.rows(torch.arange(rows, device=x.device).repeat_interleave(count))
        logits = self.denoiser.predict(states, 0.0, self.denoiser.native_kind, given)
        chance = torch.log_softmax(logits.float(), dim=-1).gather(-1, states[..., None])[..., 0].double()
        if self.carry_over:
            chance = torch.where((x >= logits.shape[-1]).repeat_interleave(count, dim=0), chance, 0.0)
        return log_proposal - chance.flatten(1).sum(1).reshape(rows, count)


def _one_time(t: float | Tensor) -> float:
    if isinstance(t, Tensor) and t.ndim:
        if bool((t != t[0]).any()):
            raise AnydiffError("the guidance 'energy' needs one time for the whole batch, not one per sample.")
        return float(t[0])
    return float(t)
