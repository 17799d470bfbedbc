"""The kinds of prediction, each a row of weights over E[u_k | x_t], and how one kind follows from others.

A path x_t = Σ_k c_k u_k has sources u_k. Every kind of prediction is a sum Σ_k r_k E[u_k | x_t] with weights r_k(t):

================  ==========================================  =====================================================
kind              meaning                                     weights
================  ==========================================  =====================================================
data              E[x_0 | x_t]                                1 on the clean source
noise             E[ε | x_t]                                  1 on the noise
score             ∇ log p_t(x_t), Gaussian noise alone        -1/σ on the noise
velocity          v = α ε - σ x_0                             -σ on the clean source, α on the noise
flow              dx_t/dt                                     c_k' on every source
edm               EDM's F: D = c_skip y + c_out F, y = x/α    σ/(σ_d s) on the data, -α σ_d/s on the noise
residual          E[u - x_0 | x_t], u the known source or 0   1 on u, -1 on the clean source
start             E[u | x_t], u the other end of a bridge     1 on the start
interpolant       E[∂_t I | x_t], x_t = I + γ z               c_k' on every source but the noise
================  ==========================================  =====================================================

with s² = σ² + α² σ_d². The state is a row too, x_t = Σ_k c_k E[u_k | x_t], and so is each known source. So a kind
follows from those that are predicted by a small linear system, solved in float64 and kept per path and time. On a path
of data and noise one prediction gives all others, target = p x_t + q prediction (less what is known), in closed form.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath, LinearPath
from anydiff.paths.path import Path, Time

PredictionKind = Literal[
    "data", "noise", "velocity", "score", "flow", "edm", "residual", "start", "interpolant", "logits", "ratio", "cavity"
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(PredictionKind)

Row = Mapping[str, Any]
"""Name of a source -> its weight."""


def check_kinds(path: Path, kinds: Sequence[str], what: str = "parametrization") -> None:
    """Refuse kinds that do not exist, have no meaning on ``path``, or are named twice.

    Raises:
        UnknownNameError: no such kind.
        AnydiffError: the path does not license it, or there is none, or one twice.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError(what, kind, KINDS)
        if kind not in path.kinds:
            raise AnydiffError(
                f"{what} is {kind!r}, which has no meaning on {path!r}; take one of {', '.join(path.kinds)}."
            )
    if not kinds or len(set(kinds)) < len(kinds):
        raise AnydiffError(f"{what} is {list(kinds)}, but must name at least one kind of prediction, and each once.")


def weights(path: LinearPath, t: Tensor, kind: str, sigma_data: float = 1.0) -> dict[str, Tensor]:
    """r_k(t) of ``kind`` on every source of ``path`` where it is not zero, float64, of the shape of ``t``.

    Raises:
        AnydiffError: the kind has no meaning on the path.
    """
    check_kinds(path, [kind], "the kind of prediction")
    t = t.to(torch.float64)
    if kind == "flow":
        return path.derivatives(t)
    if kind == "interpolant":
        return {name: slope for name, slope in path.derivatives(t).items() if path.sources[name] != "noise"}
    (clean,), noise = path.named("clean"), path.named("noise")
    c = path.coefficients(t)
    one = torch.ones_like(c[clean])
    if kind == "data":
        return {clean: one}
    if kind == "start":
        return {path.named("start")[0]: one}
    if kind == "residual":
        return {**dict.fromkeys(path.known, one), clean: -one}
    if kind == "noise":
        return {noise[0]: one}
    alpha, sigma = c[clean], c[noise[0]]
    if kind == "score":
        return {noise[0]: -1 / sigma}
    if kind == "velocity":
        return {clean: -sigma, noise[0]: alpha}
    scale = torch.sqrt(sigma**2 + (alpha * sigma_data) ** 2)
    return {clean: sigma / (sigma_data * scale), noise[0]: -alpha * sigma_data / scale}


def _from_data(path: GaussianPath, t: Any, kind: str, sigma_data: float) -> tuple[Any, Any]:
    """(p, q) with prediction = p x_t + q D; the table above."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == "data":
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    if kind == "noise":
        return 1 / sigma, -alpha / sigma
    if kind == "score":
        check_kinds(path, [kind], "the kind of prediction")
        return -1 / sigma**2, alpha / sigma**2
    if kind == "velocity":
        return alpha / sigma, -(alpha**2 + sigma**2) / sigma
    if kind == "flow":
        slope = path.d_sigma(t) / sigma
        return slope, path.d_alpha(t) - alpha * slope
    if kind == "edm":
        squared = sigma**2 + (alpha * sigma_data) ** 2
        return -alpha * sigma_data / (sigma * squared**0.5), squared**0.5 / (sigma * sigma_data)
    if kind == "residual":
        check_kinds(path, [kind], "the kind of prediction")
        return 0.0 * alpha, -1.0 + 0.0 * alpha
    raise UnknownNameError("kind of prediction", kind, KINDS)


def _to_data(path: GaussianPath, t: Any, kind: str, sigma_data: float) -> tuple[Any, Any]:
    """(p, q) with D = p x_t + q prediction; written out, since inverting the table divides 0 by 0 at σ = 0."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == "data":
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    if kind == "noise":
        return 1 / alpha, -sigma / alpha
    if kind == "score":
        check_kinds(path, [kind], "the kind of prediction")
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
    if kind == "residual":
        check_kinds(path, [kind], "the kind of prediction")
        return 0.0 * alpha, -1.0 + 0.0 * alpha
    raise UnknownNameError("kind of prediction", kind, KINDS)


def conversion(
    path: GaussianPath,
    t: Time,
    source: str,
    target: str,
    sigma_data: float = 1.0,
) -> tuple[Time, Time]:
    """(p, q) in float64 with ``target = p x_t + q source``, for state and predictions less the path's known sources.

    Args:
        path: gives α, σ and their derivatives.
        t: a time, or a tensor of times (then p and q are tensors of its shape).
        source: the kind that is known.
        target: the kind that is wanted.
        sigma_data: standard deviation of the data, used by ``edm`` alone.

    Raises:
        AnydiffError: ``t`` is a number at which the source does not determine the target (α or σ is 0), or the path
            does not license a kind.
    """
    try:
        # One number for the whole batch is what samplers give, the same ones for every batch: made once.
        made = _conversion if isinstance(t, Tensor) else _kept_conversion
        return made(path, t, source, target, sigma_data)
    except ZeroDivisionError:
        raise AnydiffError(
            f"the {source} prediction does not determine the {target} prediction at t={t:g}, where α is "
            f"{path.alpha(t):g} and σ is {path.sigma(t):g}; use another parametrization or move this end of the path."
        ) from None


def _conversion(path: GaussianPath, t: Time, source: str, target: str, sigma_data: float) -> tuple[Time, Time]:
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


_kept_conversion = functools.lru_cache(maxsize=4096)(_conversion)


def known_weights(path: GaussianPath, t: Time, source: str, target: str, sigma_data: float = 1.0) -> dict[str, Any]:
    """w_k of every known source in ``target = p x_t + q source + Σ_k w_k u_k``, with (p, q) of :func:`conversion`.

    w_k = r_k(target) - p c_k - q r_k(source): what the state and the given prediction hold of u_k is taken out. The
    weights are numbers where ``t`` is one, else tensors of its shape.
    """
    made = _known_weights if isinstance(t, Tensor) else _kept_known_weights
    return made(path, t, source, target, sigma_data)


def _known_weights(path: GaussianPath, t: Time, source: str, target: str, sigma_data: float) -> dict[str, Any]:
    p, q = conversion(path, t, source, target, sigma_data)
    times = torch.as_tensor(t, dtype=torch.float64)
    c = path.coefficients(times)
    rows = [weights(path, times, kind, sigma_data) for kind in (target, source)]
    zero = torch.zeros_like(times)
    found = {k: rows[0].get(k, zero) - p * c[k] - q * rows[1].get(k, zero) for k in path.known}
    return found if isinstance(t, Tensor) else {name: float(value) for name, value in found.items()}


_kept_known_weights = functools.lru_cache(maxsize=4096)(_known_weights)


@functools.lru_cache(maxsize=4096)
def solved(
    path: LinearPath, t: float, given: tuple[str, ...], target: str, sigma_data: float = 1.0
) -> tuple[float, tuple[float, ...], dict[str, float]]:
    """(p, q, w) with ``target = p x_t + Σ_i q_i given_i + Σ_k w_k known_k`` on any linear path, float64.

    The rows of the given kinds, of the state and of the known sources are a system of one equation per source.

    Raises:
        AnydiffError: the given kinds do not determine the target at ``t``.
    """
    time = torch.tensor(t, dtype=torch.float64)
    known = path.known
    rows = [path.coefficients(time), *(weights(path, time, kind, sigma_data) for kind in given)]
    rows += [{name: torch.ones(())} for name in known]
    matrix = torch.tensor([[float(row.get(name, 0.0)) for name in path.sources] for row in rows], dtype=torch.float64)
    wanted = weights(path, time, target, sigma_data)
    right = torch.tensor([float(wanted.get(name, 0.0)) for name in path.sources], dtype=torch.float64)
    good = bool(torch.isfinite(matrix).all() and torch.isfinite(right).all())
    solution = torch.linalg.lstsq(matrix.T, right[:, None], driver="gelsd").solution[:, 0] if good else right
    if not good or float((matrix.T @ solution - right).abs().max()) > 1e-9 * float(1 + right.abs().max()):
        raise AnydiffError(
            f"{' and '.join(given)} do not determine the {target} prediction at t={t:g} on {path!r}; predict it too "
            "(parametrization), or move this end of the path."
        )
    p, *others = solution.tolist()
    q, w = others[: len(given)], others[len(given) :]
    return p, tuple(q), dict(zip(known, w, strict=True))
