"""Entries that are known before sampling: inpainting, start and goal of a plan, a scaffold, past values.

D is replaced by the known values where the mask says so. A plan moves a state towards its D, so the known entries of
x_t are noised versions of the known values at every level, with no extra step in any solver. What noise the last node
leaves is taken away by :func:`settle`, after the plan.

This is not the exact posterior of a model that sees the known entries noised (it is for independent entries): at high
noise levels it knows less of them than it could. A network trained with them clean gives the exact conditional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance.base import Guidance, GuidedDenoiser

KNOWN, MASK = "known", "known_mask"

Shown = Literal["noised", "clean"]


@dataclass(frozen=True)
class KnownEntries(Guidance):
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

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The guided denoiser."""
        return _KnownDenoiser(denoiser, self.shown)


def settle(states: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
    """``states`` with the known entries of ``condition``, if it has any, exactly as they were given."""
    if KNOWN not in condition:
        return states
    known, mask = checked_known(condition, states)
    return torch.where(mask, known, states)


class _KnownDenoiser(GuidedDenoiser):
    """See :class:`KnownEntries`."""

    def __init__(self, inner: Denoiser, shown: Shown) -> None:
        super().__init__(inner)
        self.shown = shown

    def native(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Tensor:
        """D with the known entries in place."""
        if KNOWN not in condition and MASK not in condition:
            return self.inner(x, t, **condition)
        known, mask = checked_known(condition, x)
        rest = {name: value for name, value in condition.items() if name not in (KNOWN, MASK)}
        seen = torch.where(mask, known, x) if self.shown == "clean" else x
        return torch.where(mask, known, self.inner(seen, t, **rest))


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
