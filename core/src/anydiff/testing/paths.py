"""Paths: ends, derivatives, monotone signal-to-noise ratio, its inverse, and the moments of noised data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import MLP
from anydiff.objectives import Prediction
from anydiff.paths.base import GaussianPath, LinearPath
from anydiff.registry import Entry
from anydiff.states import Conditioning, NoiseSource, StateSpec
from anydiff.testing.kit import NUMBERS, check
from anydiff.testing.networks import awake
from anydiff.testing.subject import Subject, require, skip


def _any(plugin: Subject, entry: Entry) -> LinearPath:
    path: LinearPath = plugin.build(entry)
    require(
        isinstance(path, LinearPath),
        f'it builds a {type(path).__name__}, which is no LinearPath; one of classes registers states="classes".',
    )
    return path


def _path(plugin: Subject, entry: Entry) -> GaussianPath | None:
    """The path, if it has a log-SNR; without one there is nothing to check of it."""
    path = _any(plugin, entry)
    return path if isinstance(path, GaussianPath) else None


def _times(path: LinearPath, count: int) -> list[float]:
    """Times strictly inside the range."""
    return [path.t_end + (i + 0.5) / count * (path.t_start - path.t_end) for i in range(count)]


@check("path.ends", "paths", states=NUMBERS)
def ends(plugin: Subject, entry: Entry) -> None:
    """t_end < t_start; at t_start the signal is gone and the prior is the noise; at t_end the signal prevails."""
    path = _path(plugin, entry)
    if path is None:
        return
    require(0 <= path.t_end < path.t_start < math.inf, f"t_end is {path.t_end} and t_start is {path.t_start}.")
    remaining = math.exp(path.log_snr(path.t_start))
    require(remaining <= 0.05, f"at t_start the signal-to-noise ratio is still {remaining:.3g}; 0.05 is allowed.")
    require(path.sigma(path.t_start) > 0, "at t_start there is no noise.")
    right = math.isclose(path.prior_std, path.sigma(path.t_start), rel_tol=0.01)
    require(right, f"prior_std is {path.prior_std:.4g}, but the noise at t_start is {path.sigma(path.t_start):.4g}.")
    clean = math.exp(min(path.log_snr(path.t_end), 700.0))
    require(clean >= 10, f"at t_end the signal-to-noise ratio is only {clean:.3g}; at least 10 is needed.")
    for t in (path.t_start, path.t_end):
        require(
            math.isfinite(path.alpha(t)) and math.isfinite(path.sigma(t)), f"a coefficient at t={t:g} is not finite."
        )


@check("path.derivatives", "paths", states=NUMBERS)
def derivatives(plugin: Subject, entry: Entry) -> None:
    """The derivatives of all coefficients agree with finite differences, dα/dt and dσ/dt too."""
    path = _any(plugin, entry)
    for t in _times(path, 9):
        found = path.derivatives(torch.tensor(t, dtype=torch.float64))
        for name in path.sources:
            coefficient = _coefficient(path, name)
            expected = _difference(coefficient, t, 1e-3 * min(t, path.t_start - t))
            size = max(abs(expected), abs(coefficient(t)) / path.t_start)
            require(
                abs(float(found[name]) - expected) <= 1e-5 * size,
                f"the derivative of {name} at {t:.4g} is {float(found[name]):.8g}, but finite differences say "
                f"{expected:.8g}.",
            )
    if not isinstance(path, GaussianPath):
        return
    for t in _times(path, 9):
        for name in ("alpha", "sigma"):
            function, value = getattr(path, name), getattr(path, f"d_{name}")(t)
            expected = _difference(function, t, 1e-3 * min(t, path.t_start - t))
            error = abs(value - expected)
            size = max(abs(expected), abs(function(t)) / path.t_start)
            require(
                error <= 1e-5 * size, f"d_{name}({t:.4g}) is {value:.8g}, but finite differences say {expected:.8g}."
            )


def _coefficient(path: LinearPath, name: str) -> Callable[[float], float]:
    return lambda t: float(path.coefficients(torch.tensor(t, dtype=torch.float64))[name])


def _difference(function: Callable[[float], float], t: float, h: float) -> float:
    """df/dt by the central difference of order 4."""
    return (8 * (function(t + h) - function(t - h)) - (function(t + 2 * h) - function(t - 2 * h))) / (12 * h)


@check("path.differentiable", "paths", states=NUMBERS)
def differentiable(plugin: Subject, entry: Entry) -> None:
    """What is made of a time that requires a gradient has one: derivatives of α and σ, drift and g²."""
    path = _path(plugin, entry)
    if path is None:
        return
    for t in _times(path, 5):
        for name in ("d_alpha", "d_sigma", "drift", "squared_diffusion"):
            function: Callable[..., Any] = getattr(path, name)
            _check_gradient(name, function, t, 1e-3 * min(t, path.t_start - t), path.t_start)


def _check_gradient(name: str, function: Callable[..., Any], at: float, h: float, scale: float) -> None:
    point = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    value = function(point)
    require(value.requires_grad, f"{name} at a time that requires a gradient has none: a time was detached.")
    (found,) = torch.autograd.grad(value.sum(), point)
    expected = _difference(function, at, h)
    size = max(abs(expected), abs(function(at)) / scale)
    require(
        abs(float(found) - expected) <= 1e-4 * size,
        f"the derivative of {name} at {at:.4g} is {float(found):.8g}, but finite differences say {expected:.8g}.",
    )


@check("path.monotone", "paths", states=NUMBERS)
def monotone(plugin: Subject, entry: Entry) -> None:
    """The log-SNR decreases strictly and is log(α/σ)."""
    path = _path(plugin, entry)
    if path is None:
        return
    times = _times(path, 2000)
    levels = path.log_snr(torch.tensor(times, dtype=torch.float64)).tolist()
    for (s, first), (t, second) in itertools.pairwise(zip(times, levels, strict=True)):
        require(first > second, f"the log-SNR rises between t={s:.5g} and t={t:.5g}.")
    for t, level in list(zip(times, levels, strict=True))[::250]:
        ratio = math.log(path.alpha(t) / path.sigma(t))
        require(abs(level - ratio) <= 1e-6 * max(1.0, abs(ratio)), f"log_snr({t:.4g}) is not log(alpha/sigma).")


@check("path.inverse", "paths", states=NUMBERS)
def inverse(plugin: Subject, entry: Entry) -> None:
    """time(log_snr(t)) = t, for numbers and for tensors."""
    path = _path(plugin, entry)
    if path is None:
        return
    for t in _times(path, 9):
        level = path.log_snr(t)
        many = path.time(torch.tensor([level, level], dtype=torch.float64))
        for back in (path.time(level), float(many[1])):
            right = abs(back - t) <= 1e-6 * max(t, 0.1 * path.t_start)
            require(right, f"time(log_snr({t:.6g})) is {back:.6g}.")


@check("path.moments", "paths", states=NUMBERS)
def moments(plugin: Subject, entry: Entry) -> None:
    """Data of mean 1 and deviation 1/2, noised by mix() with the path's noise, have mean α and variance α²/4 + σ²."""
    path = _path(plugin, entry)
    if path is None:
        return
    draws = NoiseSource(StateSpec.single((40,)), 1, path.noise_law)
    noise = draws.draw(range(256), 0, torch.float64).reshape(-1, 1)
    given = Conditioning(sources={name: torch.zeros_like(noise) for name in path.known})
    clean = 1 + 0.5 * torch.randn(noise.shape, dtype=torch.float64)
    for t in _times(path, 3):
        mixed = path.noised(torch.full((len(noise),), t), clean, noise, given)
        alpha, sigma = path.alpha(t), path.sigma(t)
        if not path.noise_law.gaussian:
            _check_heavy_tails(mixed - alpha * clean, sigma * noise)
            continue
        std = math.sqrt(alpha**2 / 4 + sigma**2)
        off = abs(float(mixed.mean()) - alpha) / std * math.sqrt(len(noise))
        require(off < 5, f"at t={t:.4g} the mean is {float(mixed.mean()):.4g}, but must be alpha = {alpha:.4g}.")
        found = float(mixed.std())
        require(abs(found / std - 1) < 0.04, f"at t={t:.4g} the deviation is {found:.4g}, but must be {std:.4g}.")


def _check_heavy_tails(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Noise that need not have a variance is compared number by number."""
    require(torch.allclose(found, wanted, rtol=1e-6, atol=1e-9), "mix() does not add sigma times the path's own noise.")


@check("path.training", "paths", states=NUMBERS)
def training(plugin: Subject, entry: Entry) -> None:
    """A network is trained on it for one step, with every kind of prediction that the path has."""
    path = _any(plugin, entry)
    clean = 0.5 * torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    noise = NoiseSource(StateSpec.single((3,)), 1, path.noise_law).draw(range(4), 0)
    given = Conditioning(sources={name: clean.flip(0) for name in path.named("known", "start")})
    network = MLP(StateSpec.single((3,)), width=8, blocks=1, told=path.told_size)
    awake(network)
    try:
        path = path.bind(StateSpec.single((3,)))
    except AnydiffError as error:
        skip(f"the path is one of particular states ({error}).")
    for kind in path.kinds:
        denoiser = NetworkDenoiser(network, path, kind)  # type: ignore[arg-type]
        loss = Prediction()(denoiser, clean, noise, torch.linspace(0.2, 0.8, 4).double(), given).mean()
        require(bool(torch.isfinite(loss)), f"the loss of a {kind} prediction is {float(loss)}.")
        gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        require(
            any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients),
            f"a {kind} prediction trains nothing.",
        )
