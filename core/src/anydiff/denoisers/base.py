"""The face of every denoiser, and the linear relations between the kinds of prediction.

With D = E[x_0 | x_t] every other prediction is p x_t + q D:

==========  ==========================================  ====================  =========================
kind        meaning                                     p                     q
==========  ==========================================  ====================  =========================
data        E[x_0 | x_t]                                0                     1
noise       E[ε | x_t]                                  1/σ                   -α/σ
score       ∇ log p_t(x_t)                              -1/σ²                 α/σ²
velocity    v = α ε - σ x_0                             α/σ                   -(α² + σ²)/σ
flow        dx_t/dt = α' x_0 + σ' ε                     σ'/σ                  α' - α σ'/σ
edm         F of EDM's D = c_skip y + c_out F, y=x/α    -c_skip/(α c_out)     1/c_out
==========  ==========================================  ====================  =========================
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath, Time, per_row
from anydiff.states import UNCONDITIONAL, Conditioning, Known, StateSpec

PredictionKind = Literal["data", "noise", "velocity", "score", "flow", "edm"]
KINDS: tuple[str, ...] = get_args(PredictionKind)


def _from_data(path: GaussianPath, t: Any, kind: str, sigma_data: float) -> tuple[Any, Any]:
    """(p, q) with prediction = p x_t + q D; the table above."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == "data":
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    if kind == "noise":
        return 1 / sigma, -alpha / sigma
    if kind == "score":
        return -1 / sigma**2, alpha / sigma**2
    if kind == "velocity":
        return alpha / sigma, -(alpha**2 + sigma**2) / sigma
    if kind == "flow":
        slope = path.d_sigma(t) / sigma
        return slope, path.d_alpha(t) - alpha * slope
    if kind == "edm":
        squared = sigma**2 + (alpha * sigma_data) ** 2
        return -alpha * sigma_data / (sigma * squared**0.5), squared**0.5 / (sigma * sigma_data)
    raise UnknownNameError("kind of prediction", kind, KINDS)


def _to_data(path: GaussianPath, t: Any, kind: str, sigma_data: float) -> tuple[Any, Any]:
    """(p, q) with D = p x_t + q prediction; written out, since inverting the table divides 0 by 0 at σ = 0."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == "data":
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    if kind == "noise":
        return 1 / alpha, -sigma / alpha
    if kind == "score":
        return 1 / alpha, sigma**2 / alpha
    if kind == "velocity":
        squared = alpha**2 + sigma**2
        return alpha / squared, -sigma / squared
    if kind == "flow":
        d_sigma = path.d_sigma(t)
        wronskian = d_sigma * alpha - sigma * path.d_alpha(t)
        return d_sigma / wronskian, -sigma / wronskian
    if kind == "edm":
        squared = sigma**2 + (alpha * sigma_data) ** 2
        return alpha * sigma_data**2 / squared, sigma * sigma_data / squared**0.5
    raise UnknownNameError("kind of prediction", kind, KINDS)


def conversion(
    path: GaussianPath,
    t: Time,
    source: PredictionKind,
    target: PredictionKind,
    sigma_data: float = 1.0,
    without_known: bool = False,
) -> tuple[Time, Time]:
    """(p, q) in float64 with ``target = p x_t + q source``; see the table in :mod:`anydiff.denoisers.base`.

    Args:
        path: gives α, σ and their derivatives.
        t: a time, or a tensor of times (then p and q are tensors of its shape).
        source: the kind that is known.
        target: the kind that is wanted.
        sigma_data: standard deviation of the data, used by ``edm`` alone.
        without_known: state and predictions are those less the path's known sources, for which the relations do hold.

    Raises:
        AnydiffError: ``t`` is a number at which the source does not determine the target (α or σ is 0), or the path has
            known sources, which these relations do not hold.
    """
    if path.known and source != target and not without_known:
        raise AnydiffError(
            f"a {source} prediction on {path!r} cannot become a {target} prediction without {path.known[0]}; use "
            "parametrization: data and ask for the data."
        )
    try:
        return _conversion(path, t, source, target, sigma_data)
    except ZeroDivisionError:
        raise AnydiffError(
            f"the {source} prediction does not determine the {target} prediction at t={t:g}, where α is "
            f"{path.alpha(t):g} and σ is {path.sigma(t):g}; use another parametrization or move this end of the path."
        ) from None


def _conversion(
    path: GaussianPath, t: Time, source: PredictionKind, target: PredictionKind, sigma_data: float
) -> tuple[Time, Time]:
    if source == target:
        zero: Any = path.alpha(t)
        zero = zero * 0.0
        return zero, zero + 1.0
    if target == "data":
        p, q = _to_data(path, t, source, sigma_data)
        return p, q
    if source == "data":
        p, q = _from_data(path, t, target, sigma_data)
        return p, q
    p_data, q_data = _to_data(path, t, source, sigma_data)
    p, q = _from_data(path, t, target, sigma_data)
    return p + q * p_data, q * q_data


class Denoiser(ABC):
    """Anything that predicts E[x_0 | x_t], in whatever kind is natural to it.

    A subclass gives ``path``, ``native_kind``, the ``spec`` of its states where it knows it, and :meth:`native`;
    calling the denoiser, or asking :meth:`predict` for another kind, converts with coefficients made in float64.
    """

    path: GaussianPath
    native_kind: PredictionKind = "data"
    sigma_data: float = 1.0
    spec: StateSpec | None = None

    @abstractmethod
    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The native prediction ``[B, *shape]`` for the state ``x [B, *shape]`` at time ``t`` (a float, or ``[B]``)."""

    def __call__(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] ``[B, *shape]``."""
        return self.predict(x, t, "data", condition)

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """The condition with all that does not depend on (x, t) computed: a sampler calls this once, then every step.

        What is made of the condition ``frames`` are its ``parts`` (:meth:`Conditioning.with_parts`), batch-first. They
        do not depend on where it is present, so that guidance can still repeat rows and hide it. A denoiser also
        accepts a condition that was not encoded; by default nothing is.
        """
        return condition

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """Entries of the states ``[B, *shape]`` that it sees clean because ``condition`` gives them; None if none.

        A network that was trained with known entries in place, and puts them there by itself, draws the others from
        their exact law given these. By default a denoiser sees all of the state as it is.
        """
        return None

    def predict(
        self, x: Tensor, t: float | Tensor, kind: PredictionKind = "data", condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """The prediction of the given kind ``[B, *shape]``; arguments as for :meth:`native`."""
        return convert(self, x, t, self.native(x, t, condition), self.native_kind, kind)


def convert(
    denoiser: Denoiser, x: Tensor, t: float | Tensor, value: Tensor, source: PredictionKind, target: PredictionKind
) -> Tensor:
    """``value``, a prediction of kind ``source`` at the state ``x``, as kind ``target``."""
    if source == target:
        return value
    p, q = conversion(denoiser.path, t, source, target, denoiser.sigma_data)
    if isinstance(p, Tensor) and isinstance(q, Tensor):
        return per_row(p, x) * x + per_row(q, x) * value
    return value * q + x * p if p else value * q


class FunctionDenoiser(Denoiser):
    """A plain function ``(x, t) -> prediction`` or ``(x, t, condition) -> prediction`` as a denoiser of that kind."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        path: GaussianPath,
        kind: PredictionKind = "data",
        sigma_data: float = 1.0,
    ) -> None:
        self.function = function
        self._asks = asks_condition(function)
        self.path = path
        self.native_kind = kind
        self.sigma_data = sigma_data

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Call the function."""
        return self.function(x, t, condition) if self._asks else self.function(x, t)


def asks_condition(function: Callable[..., Tensor]) -> bool:
    """Whether a function is one of ``(x, t, condition)``; else it is one of the state and the time alone.

    A third parameter counts where it is called ``condition`` or must be given; one that has a value of its own already
    (``lambda x, t, centre=centre: ...``) is not handed a condition.
    """
    try:
        named = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in another language: nothing tells
        return True
    if any(each.kind is each.VAR_POSITIONAL for each in named):
        return True
    third = [each for each in named if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)][2:3]
    return any(each.name == "condition" or each.default is each.empty for each in third)


def as_denoiser(function: Callable[..., Tensor] | Denoiser, path: GaussianPath) -> Denoiser:
    """``function`` itself if it is a :class:`Denoiser`, else a :class:`FunctionDenoiser` that predicts the data."""
    return function if isinstance(function, Denoiser) else FunctionDenoiser(function, path)


def batch_times(t: float | Tensor, x: Tensor) -> Tensor:
    """``t`` as a float64 tensor ``[B]`` on the device of ``x``."""
    if isinstance(t, Tensor):
        return t.to(dtype=torch.float64, device=x.device).expand(x.shape[0]) if t.ndim == 0 else t.to(x.device)
    return torch.full((x.shape[0],), t, dtype=torch.float64, device=x.device)
