"""The denoising loss on held-out data at eight fixed noise levels: what separates the network from the solver."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.denoisers.base import batch_times
from anydiff.errors import AnydiffError, natural_number
from anydiff.networks import Autoencoder
from anydiff.paths.product import ProductPath
from anydiff.pipeline import Pipeline
from anydiff.recipes.build import build_dataset
from anydiff.states import Conditioning, NoiseSource

LOG_SNRS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""λ = log(α/σ) of every model: from hardly any signal to noise of 5 %."""
MOST = 1024
"""Training examples whose moments the comparison takes."""


@dataclass(frozen=True)
class Level:
    """The loss at one noise level.

    Attributes:
        log_snr: λ = log(α/σ).
        loss: mean over held-out examples and entries of (D(x_t, t) - x_0)².
        error: its standard error over the examples.
        linear: the loss of the Gaussian with the training data's mean and variance of each entry, for the same noise:
            what no network is needed for. NaN on a path whose leaves have noise levels of their own.
    """

    log_snr: float
    loss: float
    error: float
    linear: float

    @property
    def share(self) -> float:
        """Of the linear predictor's loss: 1 is as good as no network, above 1 is broken at this level."""
        return self.loss / self.linear if self.linear > 0 else math.nan


def denoising_levels(pipeline: Pipeline, count: int = 128, seed: int = 0, batch_size: int = 64) -> list[Level]:
    """The losses of a model at the levels of :data:`LOG_SNRS` that its path reaches.

    Args:
        pipeline: the model.
        count: most held-out examples; the same noise serves every level and every model of the same states.
        seed: of the noise.
        batch_size: rows per network call.

    Raises:
        AnydiffError: the model is an autoencoder.
    """
    if isinstance(pipeline.denoiser.network, Autoencoder):
        raise AnydiffError(f"{pipeline.recipe.name!r} is an autoencoder, which removes no noise; ask for its metrics.")
    held_out = build_dataset(pipeline.recipe, "test")
    rows = range(min(natural_number("count", count), len(held_out)))
    states, condition = batch_of(pipeline, held_out, rows)
    spec = pipeline.domain.spec if pipeline.latent is None else pipeline.latent.spec
    noise = NoiseSource(spec, seed).draw(rows, 0, torch.float32)
    present = spec.present(condition.mask if spec.masked else None).expand_as(states)
    moments = _moments(pipeline)
    path = pipeline.denoiser.gaussian_path
    first, last = float(path.log_snr(path.t_start)), float(path.log_snr(path.t_end))
    return [
        _level(pipeline, states, condition, noise, present, moments, level, batch_size)
        for level in LOG_SNRS
        if first <= level <= last
    ]


def batch_of(pipeline: Pipeline, data: Dataset, rows: range) -> tuple[Tensor, Conditioning]:
    """The states that are diffused of ``rows`` of the data, latents where the model has such, and their conditions."""
    states, condition = data.batch(list(rows))
    return (states if pipeline.latent is None else pipeline.latent.to_latent(states)), condition.without_truth()


def _moments(pipeline: Pipeline) -> tuple[Tensor, Tensor] | None:
    if isinstance(pipeline.denoiser.path, ProductPath):
        return None
    data = build_dataset(pipeline.recipe, "train")
    states = batch_of(pipeline, data, range(min(MOST, len(data))))[0].double()
    return states.mean(dim=0), states.var(dim=0, unbiased=False)


def _level(
    pipeline: Pipeline, states: Tensor, condition: Conditioning, noise: Tensor, present: Tensor,
    moments: tuple[Tensor, Tensor] | None, log_snr: float, batch_size: int,
) -> Level:  # fmt: skip
    denoiser = pipeline.denoiser
    path = denoiser.gaussian_path
    t = float(path.time(log_snr))
    device = next(denoiser.parameters()).device
    squares, linear = [], []
    for start in range(0, len(states), batch_size):
        part = slice(start, start + batch_size)
        clean, told, there = states[part], condition.rows(part), present[part].double()
        noised = path.noised(batch_times(t, clean), clean, noise[part], told)
        with torch.no_grad():
            made = denoiser(noised.to(device), t, told.to(device)).cpu()
        squares.append(_mean((made - clean).double().square(), there))
        if moments is not None:
            mean, variance = moments
            alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
            weight = alpha * variance / (alpha**2 * variance + sigma**2)
            guess = mean + weight * (noised.double() - alpha * mean)
            linear.append(_mean((guess - clean.double()).square(), there))
    losses = torch.cat(squares)
    error = float(losses.std() / math.sqrt(len(losses))) if len(losses) > 1 else math.nan
    return Level(log_snr, float(losses.mean()), error, float(torch.cat(linear).mean()) if linear else math.nan)


def _mean(squares: Tensor, present: Tensor) -> Tensor:
    """Mean over the entries that are there, per row."""
    return (squares * present).flatten(1).sum(1) / present.flatten(1).sum(1).clamp(min=1)
