"""Entries that are known before sampling: inpainting, start and goal of a plan, a scaffold, past values.

D is replaced by the known values where the mask says so. A plan moves a state towards its D, so the known entries of
x_t are noised versions of the known values at every level, with no extra step in any solver. What noise the last node
leaves is taken away by :func:`with_known_entries`, after the plan.

A network that was trained with the known entries clean (``shown="clean"``) gives the exact conditional. A network that
saw them noised does not, but for independent entries: at high noise levels it knows less of them than it could, and
what it decides there is not taken back. More calls are no help. On an 8 x 8 Gaussian field of correlation length 2 with
its exact score, the left half known, samples of the right half have 1.4 (DDPM) to 1.9 (DPM-Solver++) times the
posterior's deviation, 2.3 to 3.2 times next to the known half, and means that are off by 1.6 to 1.8 of the posterior's
deviations, with 20 calls as with 100. So :func:`warn_approximate` says it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, PredictionKind, convert
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, UnknownNameError

KNOWN, MASK = "known", "known_mask"

Shown = Literal["noised", "clean"]


@dataclass(frozen=True)
class KnownEntries(Wrapper):
    """D ← m ⊙ y + (1 - m) ⊙ D, with the conditions ``known`` = y and ``known_mask`` = m, both ``[B, *shape]``.

    Put it outermost: the two conditions end here, and the inner denoiser does not see them. Without them it does
    nothing. Known values are states of clean data; entries outside the mask may hold anything, NaN included.

    Attributes:
        shown: what the inner denoiser sees at known entries: ``noised`` the state as it is (a network trained on noised
            states, as in replacement methods after Song et al. 2021, arXiv:2011.13456, section I.2), or ``clean`` the
            known values (a network trained with them in place: Janner et al. 2022, arXiv:2205.09991).
    """

    shown: Shown = "noised"

    def __post_init__(self) -> None:
        if self.shown not in get_args(Shown):
            raise UnknownNameError("value of shown", self.shown, get_args(Shown))

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """The data."""
        return "data"

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: dict[str, Tensor]
    ) -> Tensor:
        """The prediction of ``kind`` that has the known entries in its D."""
        return convert(denoiser, x, t, self._data(denoiser, x, t, condition), "data", kind)

    def _data(self, denoiser: Denoiser, x: Tensor, t: float | Tensor, condition: dict[str, Tensor]) -> Tensor:
        if KNOWN not in condition and MASK not in condition:
            return denoiser(x, t, **condition)
        known, mask = checked_known(condition, x)
        rest = {name: value for name, value in condition.items() if name not in (KNOWN, MASK)}
        seen = torch.where(mask, known, x) if self.shown == "clean" else x
        return torch.where(mask, known, denoiser(seen, t, **rest))


def warn_approximate(layers: Sequence[Wrapper], condition: Mapping[str, Tensor]) -> None:
    """Warn where known entries are kept by a network that sees them noised; see the module for what was measured."""
    if KNOWN in condition and any(isinstance(layer, KnownEntries) and layer.shown == "noised" for layer in layers):
        warnings.warn(
            "known entries are kept, but the others are not drawn from their exact law given these: the network sees "
            "the known entries noised (on a Gaussian field 1.4 to 1.9 times the right spread and means 1.7 deviations "
            "off, with 20 calls as with 100). Do not read the spread as an uncertainty; for that, train with the known "
            'entries clean and sample with KnownEntries(shown="clean").',
            stacklevel=3,
        )


def with_known_entries(states: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
    """``states`` with the known entries of ``condition``, if it has any, exactly as they were given."""
    if KNOWN not in condition:
        return states
    known, mask = checked_known(condition, states)
    return torch.where(mask, known, states)


def checked_known(condition: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """(known values in the dtype of ``x``, boolean mask), both of the shape of ``x``.

    Raises:
        AnydiffError: one of the two is missing, of another shape, or a known value is not finite.
    """
    for name in (KNOWN, MASK):
        if name not in condition:
            other = MASK if name == KNOWN else KNOWN
            raise AnydiffError(f"{other} was given without {name}; give both, of the shape of the states.")
        if condition[name].shape != x.shape:
            raise AnydiffError(
                f"{name} has shape {tuple(condition[name].shape)}, but the states have {tuple(x.shape)}; give one "
                "entry per entry of each state."
            )
    mask = condition[MASK].to(dtype=torch.bool, device=x.device)
    known = condition[KNOWN].to(dtype=x.dtype, device=x.device)
    if not bool((known.isfinite() | ~mask).all()):
        raise AnydiffError("known holds a value that is not finite inside known_mask; mask it out or repair it.")
    return known, mask
