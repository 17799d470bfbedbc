"""Guidance by the gradient of a reward: a linear measurement Y = g·x_0 + n, n ~ N(0, s²), is asked to be y.

Guo et al. 2024, "Gradient guidance for diffusion models: an optimization perspective" (arXiv 2404.14743), as surveyed
by Chen et al. 2024 (arXiv 2404.07771). With m = g·D(x_t) and q = ∇_{x_t} m, the gradient through the denoiser,

- ``look-ahead``: ∇ log p_t + q (y - m) / (s² + v). For Gaussian data v = g·Cov(x_0 | x_t) g = (σ²/α) q·g makes it the
  exact score of p(x_0 | Y = y); the published v is σ²|q|²/α², the same where the data's covariance is the identity
  (on a subspace) and α² + σ² = 1.
- ``naive``: ∇ log p_t + α g (y - m) / (s² + σ²|g|²), without the network's Jacobian; it leaves the support of the data.

q keeps to what the data can do: the Jacobian of D projects g onto the support, which the naive form does not.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance.base import LinearGuidance, differentiable_leaf, score_unit
from anydiff.paths.base import per_row
from anydiff.states import Conditioning

VARIANCES = ("exact", "published")


@dataclass(frozen=True, eq=False)
class MeasuredDirection(LinearGuidance):
    """What both forms share: Y = g·x_0 + n along a direction g, which is asked to be y in every sample.

    Args:
        direction: g: a state ``[*shape]``, one per sample ``[N, *shape]``, or a number for every entry (1: their sum).
        target: y: a number, or one per sample ``[N]``.
        noise_std: s > 0: a number, or one per sample ``[N]``. Infinity asks for nothing, and leaves the sampler as it
            is, bit for bit.
        samples: the indices of the samples that the rows of what is given per sample are of; 0 to N-1 by default.

    Raises:
        AnydiffError: a value is not finite, s is not above 0, or numbers of rows differ.
    """

    direction: Any
    target: Any
    noise_std: Any = 0.1
    samples: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("direction", "target", "noise_std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if not bool((self.noise_std > 0).all()):
            raise AnydiffError(f"noise_std is {_shown(self.noise_std)}, but must be above 0; try a tenth of the gain.")
        rows = {name: len(value) for name in ("target", "noise_std") if (value := getattr(self, name)).ndim}
        if self.samples is not None:
            rows = {"samples": len(self.samples), **rows}
        if any(getattr(self, name).ndim > 1 for name in ("target", "noise_std")) or len(set(rows.values())) > 1:
            raise AnydiffError(
                f"target has shape {list(self.target.shape)}, noise_std {list(self.noise_std.shape)} and samples "
                f"{rows.get('samples', 'none')}; give one number each, or one per sample."
            )

    @property
    def bends(self) -> bool:
        """Unless the noise is infinite for every sample, where no prediction is changed."""
        return not bool(torch.isinf(self.noise_std).all())

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The inner prediction, made in its own kind, with the shift of the score in the kind that is asked for."""
        if bool(torch.isinf(self.noise_std).all()):
            return denoiser.predict(x, t, kind, condition)
        with torch.inference_mode(False):  # what is made here is differentiated with
            rows = self._rows(x, condition)
            direction = self._direction(x, rows)
            target, noise = (
                (each[rows] if each.ndim and rows is not None else each).to(x).expand(len(x))
                for each in (self.target, self.noise_std)
            )
        native, pull = self.pull(denoiser, x, t, condition, direction, target, noise)
        prediction = convert(denoiser, x, t, native, denoiser.native_kind, kind, condition)
        return prediction + per_row(score_unit(denoiser, t, kind), x) * pull

    @abstractmethod
    def pull(
        self,
        denoiser: Denoiser,
        x: Tensor,
        t: float | Tensor,
        condition: Conditioning,
        direction: Tensor,
        target: Tensor,
        noise_std: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The inner prediction in the denoiser's own kind, and what is added to the score; both ``[B, *shape]``.

        ``direction`` is ``[B, *shape]``, ``target`` and ``noise_std`` are ``[B]``, all of the rows of ``x``.
        """

    def _direction(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """g of the rows of ``x [B, *shape]``, in its type and on its device."""
        given = self.direction
        own: Tensor = given[rows] if given.ndim == x.ndim and rows is not None else given
        if own.ndim and own.shape not in (x.shape, x.shape[1:]):
            raise AnydiffError(
                f"direction has shape {list(given.shape)}, but one state has {list(x.shape[1:])}; give a number, one "
                "state, or one state per sample."
            )
        return own.to(x).expand(x.shape)

    def _rows(self, x: Tensor, condition: Conditioning) -> Tensor | None:
        """The places of the rows of ``x`` in what is given per sample; None where nothing is."""
        per_sample = [each for each in (self.target, self.noise_std) if each.ndim]
        per_sample += [self.direction] if self.direction.ndim == x.ndim else []
        if not per_sample:
            return None
        known = len(per_sample[-1])
        if known != len(per_sample[0]) or (self.samples is not None and known != len(self.samples)):
            raise AnydiffError(
                f"direction has {known} rows, but target, noise_std or samples another number; give one row per sample."
            )
        if condition.index is None:
            if known == len(x):
                return torch.arange(known)
            raise AnydiffError(f"target or direction has {known} rows, but this batch has {len(x)}; give one per row.")
        named = torch.arange(known) if self.samples is None else torch.as_tensor(list(self.samples))
        ordered, places = named.sort()
        index = condition.index.cpu()
        at = torch.searchsorted(ordered, index).clamp_max(known - 1)
        missing = index[ordered[at] != index]
        if len(missing):
            raise AnydiffError(
                f"target or direction has rows for {known} samples and none for sample {int(missing[0])}; give one row "
                "per sample, and samples= where their indices are not 0, 1, 2, ..."
            )
        return places[at]


@dataclass(frozen=True, eq=False)
class LookAhead(MeasuredDirection):
    """∇ log p_t ← ∇ log p_t + q (y - g·D) / (s² + v), q = ∇_{x_t} (g·D(x_t)) through the network; see the module.

    One network call and one backward pass, about three calls' time. With a reward's gradient g at the samples of one
    round the next round has a higher reward and is made of what the model knows (:mod:`anydiff.pipeline.optimise`).

    Args:
        variance: v, the variance of g·x_0 given x_t: ``exact``, (σ²/α) q·g, or ``published``, σ²|q|²/α².

    Raises:
        UnknownNameError: no such variance.
        AnydiffError: as for :class:`MeasuredDirection`.
    """

    variance: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in VARIANCES:
            raise UnknownNameError("variance of look-ahead guidance", self.variance, VARIANCES)

    def pull(
        self,
        denoiser: Denoiser,
        x: Tensor,
        t: float | Tensor,
        condition: Conditioning,
        direction: Tensor,
        target: Tensor,
        noise_std: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """q (y - m) / (s² + v). The graph is kept only where the caller differentiates through it."""
        keep = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            state = differentiable_leaf(x, keep)
            native = denoiser.native(state, t, condition)
            data = convert(denoiser, state, t, native, denoiser.native_kind, "data", condition)
            measured = _inner(direction, data)
            if not measured.requires_grad:
                raise AnydiffError(
                    "the denoiser's prediction does not depend on the state by torch operations, so nothing can be "
                    "differentiated through it; use the guidance 'naive', or a denoiser made of torch operations."
                )
            (slope,) = torch.autograd.grad(measured.sum(), state, create_graph=keep)
        if not keep:
            native, measured = native.detach(), measured.detach()
        total = noise_std**2 + self.spread(denoiser, t, slope, direction)
        return native, per_row((target - measured) / total, x) * slope

    def spread(self, denoiser: Denoiser, t: float | Tensor, slope: Tensor, direction: Tensor) -> Tensor:
        """v ``[B]``. A network's Jacobian need not be that of any law: what would be a negative variance is 0."""
        times = torch.as_tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.gaussian_path.alpha(times), denoiser.gaussian_path.sigma(times)
        ratio = torch.where(alpha > 0, sigma / alpha, 0.0)
        if self.variance == "published":
            return _inner(per_row(ratio, slope) * slope, per_row(ratio, slope) * slope)
        return _inner(per_row(ratio * sigma, slope) * slope, direction).clamp_min(0.0)


@dataclass(frozen=True, eq=False)
class NaiveGradient(MeasuredDirection):
    """∇ log p_t ← ∇ log p_t + α g (y - g·D) / (s² + σ²|g|²): no backward pass, and it leaves the support of the data.

    What :class:`LookAhead` is compared with. Exact where the data's covariance is the identity and α² + σ² = 1.
    """

    def pull(
        self,
        denoiser: Denoiser,
        x: Tensor,
        t: float | Tensor,
        condition: Conditioning,
        direction: Tensor,
        target: Tensor,
        noise_std: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """α g (y - m) / (s² + σ²|g|²)."""
        native = denoiser.native(x, t, condition)
        data = convert(denoiser, x, t, native, denoiser.native_kind, "data", condition)
        times = torch.as_tensor(t, dtype=torch.float64)
        scaled = per_row(denoiser.gaussian_path.sigma(times), x) * direction
        share = (target - _inner(direction, data)) / (noise_std**2 + _inner(scaled, scaled))
        return native, per_row(denoiser.gaussian_path.alpha(times), x) * per_row(share, x) * direction


def _inner(one: Tensor, two: Tensor) -> Tensor:
    """Inner products of rows: ``[B]``."""
    return (one * two).flatten(1).sum(1)


def _numbers(name: str, value: Any) -> Tensor:
    """A number or numbers as a float64 tensor without NaN; infinity is for ``noise_std`` alone."""
    try:
        with torch.inference_mode(False):  # what is differentiated with must not be of inference mode
            found = torch.as_tensor(value, dtype=torch.float64).detach()
            found = found.clone() if found.is_inference() else found
    except (TypeError, ValueError, RuntimeError) as error:
        raise AnydiffError(f"{name} is {value!r}, which is no array of numbers ({error}); give numbers.") from error
    if bool(found.isnan().any()) or (name != "noise_std" and bool(found.isinf().any())):
        raise AnydiffError(f"{name} is {_shown(found)}, but must be finite; give other numbers.")
    return found


def _shown(value: Tensor) -> str:
    """A number, or the first that is wrong and how many there are."""
    if not value.ndim:
        return f"{float(value):g}"
    flat = value.flatten()
    wrong = flat[~(flat > 0) | ~flat.isfinite()]
    return f"{float(wrong[0] if len(wrong) else math.nan):g} in one of {len(flat)} places"
