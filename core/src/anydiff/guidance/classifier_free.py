"""Classifier-free guidance (Ho and Salimans 2022), with the interval of Kynkäänniemi et al. (NeurIPS 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.guidance.base import LinearGuidance, Scale, scale_at
from anydiff.paths.base import per_row
from anydiff.paths.categorical import CategoricalPath
from anydiff.paths.path import clocked
from anydiff.states import Conditioning


@dataclass(frozen=True)
class ClassifierFree(LinearGuidance):
    """D = D_∅ + w (D_c - D_∅): w = 1 is the conditional model bit for bit, w = 0 the unconditional one.

    The two predictions are one network call of twice the rows. Where w = 1 or outside the interval only the
    conditional prediction is made.

    Attributes:
        scale: w: a number, a tensor ``[B]`` (one per sample), or a function of the time t.
        interval: noise levels (low, high) of σ/α between which w applies; outside, w = 1.
        names: the conditions that are dropped in D_∅; by default all that are given.
    """

    needs_condition: ClassVar[bool] = True

    scale: Scale = 1.0
    interval: tuple[float, float] | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scale, (int, float)) and not math.isfinite(self.scale):
            raise AnydiffError(f"scale is {self.scale}, but guidance needs a finite number; try 1 to 8.")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise AnydiffError(f"interval is {self.interval}, but needs 0 <= low < high (noise levels σ/α).")

    @property
    def bends(self) -> bool:
        """Unless w is 0 or 1, where one prediction alone is made."""
        return not (isinstance(self.scale, (int, float)) and self.scale in (0, 1))

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The guided prediction, combined in the denoiser's own kind: the weights sum to one in every kind.

        Of classes it is combined in the logits.
        """
        scale = self._scale(denoiser, t, x.shape[0])
        if isinstance(scale, float) and scale == 1.0:
            return denoiser.predict(x, t, kind, condition)
        if isinstance(scale, float) and scale == 0.0:
            return denoiser.predict(x, t, kind, condition.without(_hidden(condition, self.names)))
        classes = isinstance(denoiser.path, CategoricalPath)
        native = "logits" if classes else denoiser.native_kind
        if isinstance(scale, Tensor) and isinstance(t, Tensor) and t.ndim and not classes:
            guided = _guided_rows(denoiser, x, t, condition, _hidden(condition, self.names), scale)
            return convert(denoiser, x, t, guided, native, kind, condition)
        conditional, unconditional = with_and_without(denoiser, x, t, condition, self.names, native)
        # lerp, because it is exact at w = 0 and w = 1 also where w is a tensor.
        weight = per_row(scale, conditional) if isinstance(scale, Tensor) else scale
        guided = torch.lerp(unconditional, conditional, weight)
        if classes:  # what one of the two excludes has no difference; the conditional prediction decides
            guided = torch.where(conditional.isfinite() & unconditional.isfinite(), guided, conditional)
        return convert(denoiser, x, t, guided, native, kind, condition)

    def hides(self, given: Iterable[str]) -> tuple[str, ...]:
        """Those that are dropped; none at w = 1."""
        if isinstance(self.scale, (int, float)) and self.scale == 1:
            return ()
        return tuple(name for name in given if self.names is None or name in self.names)

    def _scale(self, denoiser: Denoiser, t: float | Tensor, rows: int) -> float | Tensor:
        scale = scale_at(self.scale, t, rows)
        if self.interval is None:
            return scale
        path = clocked(denoiser.path, "the interval of classifier-free guidance")
        noise_level = torch.exp(-path.log_snr(torch.as_tensor(t, dtype=torch.float64)))
        inside = (noise_level >= self.interval[0]) & (noise_level <= self.interval[1])
        if inside.ndim == 0:
            return scale if bool(inside) else 1.0
        return torch.where(inside, torch.as_tensor(scale, dtype=torch.float64), 1.0)


def with_and_without(
    denoiser: Denoiser,
    x: Tensor,
    t: float | Tensor,
    condition: Conditioning,
    names: tuple[str, ...] | None = None,
    kind: PredictionKind = "data",
) -> tuple[Tensor, Tensor]:
    """The predictions with a condition and without it, both ``[B, *shape]``, by one network call of twice the rows.

    Args:
        denoiser: what predicts.
        x: the state ``[B, *shape]``.
        t: its time, a number or ``[B]``.
        condition: as the denoiser encoded it.
        names: the conditions that the second prediction is made without; by default all that are given.
        kind: of both predictions.

    Raises:
        AnydiffError: there is no such condition to drop.
    """
    names = _hidden(condition, names)
    double_x = torch.cat([x, x])
    double_t = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
    absent = torch.arange(len(double_x), device=x.device) >= len(x)
    both = Conditioning.joined([condition, condition]).hidden(names, absent)
    conditional, unconditional = denoiser.predict(double_x, double_t, kind, both).chunk(2)
    return conditional, unconditional


def _guided_rows(
    denoiser: Denoiser, x: Tensor, t: Tensor, condition: Conditioning, names: tuple[str, ...], scale: Tensor
) -> Tensor:
    """The guided prediction of the denoiser's own kind, of rows at times ``[B]`` of their own.

    Only rows that guidance changes are seen twice: those whose scale is not 1, and that have a condition to hide. Of a
    teacher that is guided in an interval of noise levels these are a third of a batch, say.
    """
    native, scale = denoiser.native_kind, scale.to(x.device).expand(len(x))
    there = torch.stack([condition.presence(name).to(x.device).reshape(-1).expand(len(x)) for name in names]).any(0)
    rows = torch.nonzero((scale != 1) & there)[:, 0]
    if not len(rows):
        return denoiser.predict(x, t, native, condition)
    if len(rows) == len(x):
        conditional, unconditional = with_and_without(denoiser, x, t, condition, names, native)
        return torch.lerp(unconditional, conditional, per_row(scale, conditional))
    absent = torch.arange(len(x) + len(rows), device=x.device) >= len(x)
    both = Conditioning.joined([condition, condition.rows(rows)]).hidden(names, absent)
    made = denoiser.predict(torch.cat([x, x[rows]]), torch.cat([t, t[rows]]), native, both)
    conditional, unconditional = made[: len(x)], made[len(x) :]
    changed = torch.lerp(unconditional, conditional[rows], per_row(scale[rows], unconditional))
    return conditional.index_copy(0, rows, changed)


def _hidden(condition: Conditioning, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The conditions to drop: ``names``, or all that are given."""
    names = tuple(condition.given) if names is None else names
    missing = [name for name in names if name not in condition.given]
    if missing or not names:
        name = missing[0] if missing else "(none)"
        raise AnydiffError(
            f"classifier-free guidance drops the condition {name!r}, which the sampler was not given; pass "
            "condition=... or use scale 1."
        )
    return names
