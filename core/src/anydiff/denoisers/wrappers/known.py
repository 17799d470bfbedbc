"""Entries that are known before sampling: inpainting, start and goal of a plan, a scaffold, past values.

D is replaced by the known values where the mask says so. A plan moves a state towards its D, so the known entries of
x_t are noised versions of the known values at every level, with no extra step in any solver. What noise the last node
leaves is taken away by :func:`with_known_entries`, after the plan.

A network that was trained with the known entries clean gives the exact conditional: one that puts them in place by
itself and says so (:meth:`~anydiff.denoisers.Denoiser.seen_clean`), or any other with ``shown="clean"``. A network that
saw them noised does not, but for independent entries: at high noise levels it knows less of them than it could, and
what it decides there is not taken back. More calls are no help. On an 8 x 8 Gaussian field of correlation length 2 with
its exact score, the left half known, samples of the right half have 1.4 (DDPM) to 1.9 (DPM-Solver++) times the
posterior's deviation, 2.3 to 3.2 times next to the known half, and means that are off by 1.6 to 1.8 of the posterior's
deviations, with 20 calls as with 100. So :func:`warn_approximate` says it.
A pipeline has the other entries follow instead (:class:`anydiff.inverse.known.MeasuredEntries`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.categorical import CategoricalPath
from anydiff.states import Conditioning, Known

Shown = Literal["by-path", "noised", "clean"]


@dataclass(frozen=True)
class KnownEntries(Wrapper):
    """D ← m ⊙ y + (1 - m) ⊙ D, with y and m ``[B, *shape]`` from the conditioning's ``known``.

    Put it outermost: known entries end here, and the inner denoiser is not told of them. Without any it does nothing.
    Known values are states of clean data; entries outside the mask may hold anything, NaN included.

    Attributes:
        shown: what the inner denoiser sees at known entries. ``noised``: the state as it is (a network trained on
            noised states, as in replacement methods after Song et al. 2021, arXiv:2011.13456, section I.2). ``clean``:
            the known values (a network trained with them in place: Janner et al. 2022, arXiv:2205.09991). ``by-path``:
            ``clean`` on masked paths, whose networks always see clean classes beside masks, and else ``noised``.
    """

    shown: Shown = "by-path"
    _looked: bool = field(default=False, init=False, repr=False, compare=False)

    def for_run(self, samples: Sequence[int]) -> KnownEntries:
        """The same, which looks at no value in a network call: whoever runs it has (:func:`require_finite`)."""
        made = copy.copy(self)
        object.__setattr__(made, "_looked", True)
        return made

    def known(self, known: Known, x: Tensor) -> Known:
        """Those of the states ``x``, looked at unless they were once for all samples."""
        return fitted(known, x) if self._looked else checked_known(known, x)

    def __post_init__(self) -> None:
        if self.shown not in get_args(Shown):
            raise UnknownNameError("value of shown", self.shown, get_args(Shown))

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """The data; of classes that of the inner denoiser."""
        return denoiser.native_kind if isinstance(denoiser.path, CategoricalPath) else "data"

    def shows_clean(self, denoiser: Denoiser) -> bool:
        """Whether the inner ``denoiser`` sees the known entries clean."""
        return self.shown == "clean" or (self.shown == "by-path" and denoiser.path.shows_clean)

    def replaces(self, denoiser: Denoiser) -> bool:
        """Whether known entries of D are replaced and no more, under a ``denoiser`` that sees them noised."""
        return not self.shows_clean(denoiser)

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The prediction of ``kind`` that has the known entries in its D."""
        if isinstance(denoiser.path, CategoricalPath) and condition.known is not None:
            return self._classes(denoiser, x, t, kind, condition)
        return convert(denoiser, x, t, self._data(denoiser, x, t, condition), "data", kind, condition)

    def _data(self, denoiser: Denoiser, x: Tensor, t: float | Tensor, condition: Conditioning) -> Tensor:
        if condition.known is None:
            return denoiser(x, t, condition)
        known, mask = self.known(condition.known, x)
        seen = torch.where(mask, known, x) if self.shows_clean(denoiser) else x
        return torch.where(mask, known, denoiser(seen, t, replace(condition, known=None)))

    def _classes(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """Logits in which the known classes are certain, as ``kind``; a certain class is one in the cavity too."""
        assert condition.known is not None
        known, mask = self.known(condition.known, x)
        if denoiser.causal and bool((mask.flatten(1)[:, 1:] & ~mask.flatten(1)[:, :-1]).any()):
            raise AnydiffError(
                "an entry is known after one that is not, but this model is autoregressive and sees what stands before "
                "a place alone; make known a beginning without gaps, or take a model of masked diffusion."
            )
        seen = torch.where(mask, known, x) if self.shows_clean(denoiser) else x
        asked: PredictionKind = kind if kind in ("logits", "cavity") else "logits"
        made = denoiser.predict(seen, t, asked, replace(condition, known=None))
        certain = torch.full_like(made, -torch.inf).scatter(-1, torch.where(mask, known, 0).long()[..., None], 0.0)
        return convert(denoiser, seen, t, torch.where(mask[..., None], certain, made), asked, kind, condition)


def warn_approximate(denoiser: Denoiser, layers: Sequence[Wrapper], condition: Conditioning) -> None:
    """Warn where known entries are kept by a network that sees them noised; see the module for what was measured.

    Args:
        denoiser: inside of the layers.
        layers: around it.
        condition: of all samples.
    """
    noised = any(isinstance(layer, KnownEntries) and layer.replaces(denoiser) for layer in layers)
    if condition.known is not None and noised and not sees_clean(denoiser, condition.known, condition):
        warnings.warn(
            "known entries are kept, but the others are not drawn from their exact law given these: the network sees "
            "the known entries noised (on a Gaussian field 1.4 to 1.9 times the right spread and means 1.7 deviations "
            "off, with 20 calls as with 100). Do not read the spread as an uncertainty; for that, train with the known "
            'entries clean and sample with KnownEntries(shown="clean").',
            stacklevel=3,
        )


def sees_clean(denoiser: Denoiser, known: Known, condition: Conditioning) -> bool:
    """Whether ``denoiser`` sees each of the ``known`` entries clean by itself, with the value that is known."""
    seen = denoiser.seen_clean(condition)
    if seen is None or seen.mask.shape != known.mask.shape:
        return False
    values, mask = checked_known(seen, known.values)
    equal = mask & (values == known.values)
    return bool((equal | ~known.mask.to(torch.bool)).all())


def with_known_entries(states: Tensor, condition: Conditioning) -> Tensor:
    """``states`` with the known entries of ``condition``, if it has any, exactly as they were given."""
    if condition.known is None:
        return states
    known, mask = fitted(condition.known, states)
    return torch.where(mask, known, states)


def checked_known(known: Known, x: Tensor) -> Known:
    """As :func:`fitted`, of values that are finite.

    Raises:
        AnydiffError: one of the two is of another shape, or a known value is not finite.
    """
    found = fitted(known, x)
    require_finite(found)
    return found


def fitted(known: Known, x: Tensor) -> Known:
    """The known values in the dtype of ``x`` and their boolean mask, both of the shape of ``x``; no value is looked at.

    Raises:
        AnydiffError: one of the two is of another shape.
    """
    for name, value in zip(("known", "known_mask"), known, strict=True):
        if value.shape != x.shape:
            raise AnydiffError(
                f"{name} has shape {tuple(value.shape)}, but the states have {tuple(x.shape)}; give one entry per "
                "entry of each state."
            )
    return Known(known.values.to(dtype=x.dtype, device=x.device), known.mask.to(dtype=torch.bool, device=x.device))


def require_finite(known: Known) -> None:
    """Refuse known values that are not finite: two passes over a state, which wait for the device.

    Raises:
        AnydiffError: there are some.
    """
    if not bool((known.values.isfinite() | ~known.mask.to(torch.bool)).all()):
        raise AnydiffError("known holds a value that is not finite inside known_mask; mask it out or repair it.")
