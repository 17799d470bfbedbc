"""Classifier-free guidance (Ho and Salimans 2022), with the interval of Kynkäänniemi et al. (NeurIPS 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, PredictionKind, convert
from anydiff.errors import AnydiffError
from anydiff.guidance.base import Guidance, GuidedDenoiser, Scale, scale_at
from anydiff.paths.base import per_row
from anydiff.states import NODE_MASK


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """D = D_∅ + w (D_c - D_∅): w = 1 is the conditional model bit for bit, w = 0 the unconditional one.

    The two predictions are one network call of twice the rows. Where w = 1 or outside the interval only the
    conditional prediction is made.

    Attributes:
        scale: w: a number, a tensor ``[B]`` (one per sample), or a function of the time t.
        interval: noise levels (low, high) of σ/α between which w applies; outside, w = 1.
        names: the conditions that are dropped in D_∅; by default all of them but the mask of nodes.
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

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The guided denoiser."""
        return _ClassifierFreeDenoiser(denoiser, self)


class _ClassifierFreeDenoiser(GuidedDenoiser):
    def __init__(self, inner: Denoiser, guidance: ClassifierFree) -> None:
        super().__init__(inner)
        self.guidance = guidance
        # The combination is linear with weights that sum to one, so it is the same in every kind.
        self.native_kind = inner.native_kind

    def native(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Tensor:
        return self.predict(x, t, self.native_kind, **condition)

    def predict(self, x: Tensor, t: float | Tensor, kind: PredictionKind = "data", **condition: Tensor) -> Tensor:
        scale = self._scale(t, x.shape[0])
        if isinstance(scale, float) and scale == 1.0:
            return self.inner.predict(x, t, kind, **condition)
        names = self._names(condition)
        if isinstance(scale, float) and scale == 0.0:
            return self.inner.predict(x, t, kind, **_dropped(condition, names))
        double_x = torch.cat([x, x])
        double_t = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
        rows = x.shape[0]
        present, absent = (
            _with_presence(condition, names, rows, x.device, True),
            _with_presence(condition, names, rows, x.device, False),
        )
        both = {name: torch.cat([present[name], absent[name]]) for name in present}
        native = self.inner.native_kind
        conditional, unconditional = self.inner.predict(double_x, double_t, native, **both).chunk(2)
        # lerp, because it is exact at w = 0 and w = 1 also where w is a tensor.
        weight = per_row(scale, x) if isinstance(scale, Tensor) else scale
        guided = torch.lerp(unconditional, conditional, weight)
        return convert(self, x, t, guided, native, kind)

    def _scale(self, t: float | Tensor, rows: int) -> float | Tensor:
        scale = scale_at(self.guidance.scale, t, rows)
        interval = self.guidance.interval
        if interval is None:
            return scale
        noise_level = torch.exp(-self.path.log_snr(torch.as_tensor(t, dtype=torch.float64)))
        inside = (noise_level >= interval[0]) & (noise_level <= interval[1])
        if inside.ndim == 0:
            return scale if bool(inside) else 1.0
        return torch.where(inside, torch.as_tensor(scale, dtype=torch.float64), 1.0)

    def _names(self, condition: dict[str, Tensor]) -> tuple[str, ...]:
        names = self.guidance.names
        given = dict.fromkeys(_owner(name) for name in condition if not name.endswith("_present"))
        if names is None:
            names = tuple(name for name in given if name != NODE_MASK)
        missing = [name for name in names if name not in given]
        if missing or not names:
            name = missing[0] if missing else "(none)"
            raise AnydiffError(
                f"classifier-free guidance drops the condition {name!r}, which the sampler was not given; pass "
                "condition=... or use scale 1."
            )
        return names


def _owner(name: str) -> str:
    """The condition that ``name`` belongs to: ``frames`` for ``frames.tokens``, which was encoded from it."""
    return name.partition(".")[0]


def _dropped(condition: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in condition.items()
        if _owner(name) not in names and name.removesuffix("_present") not in names
    }


def _with_presence(
    condition: dict[str, Tensor], names: tuple[str, ...], rows: int, device: torch.device, keep: bool
) -> dict[str, Tensor]:
    """``condition`` with a presence mask for each of ``names``: as given if ``keep``, else all false."""
    out = dict(condition)
    for name in names:
        key = f"{name}_present"
        given = out.get(key, torch.ones(rows, dtype=torch.bool, device=device))
        out[key] = given if keep else torch.zeros_like(given)
    return out
