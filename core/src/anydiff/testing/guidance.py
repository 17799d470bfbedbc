"""Guidance, around an exact denoiser: neutral where it says so, row by row, consistent, of the exact law."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, GaussianMixtureOracle, GaussianOracle, LinearGaussianOracle
from anydiff.guidance import Guidance
from anydiff.paths import VPCosine
from anydiff.registry import Entry
from anydiff.solvers import sample
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.6, -0.9]], dtype=torch.float64)
TIMES = (0.05, 0.4, 0.9)
SOURCE_MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
SOURCE_COVARIANCE = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
OPERATOR = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
MEASUREMENT, NOISE_STD = torch.tensor([0.8], dtype=torch.float64), 0.3


def _oracle() -> Denoiser:
    return GaussianMixtureOracle(VPCosine(), MEANS, 0.3, classes=torch.tensor([0, 1, 1]))


def _inputs() -> tuple[Tensor, dict[str, Tensor]]:
    x = torch.tensor([[0.3, -0.4], [-1.2, 0.5], [1.0, 0.9], [0.0, 0.1]], dtype=torch.float64)
    return x, {"label": torch.tensor([0, 1, 1, 0])}


def _guidance(plugin: Subject, entry: Entry, **options: object) -> Guidance:
    if entry.metadata.get("posterior") and not options:
        options = _problem()
    guidance: Guidance = plugin.build(entry, **options)
    require(isinstance(guidance, Guidance), f"it builds a {type(guidance).__name__}, which is no Guidance.")
    return guidance


def _problem() -> dict[str, object]:
    return {"operator": OPERATOR, "measurement": MEASUREMENT, "noise_std": NOISE_STD}


@check("guidance.neutral", "guidance", optional=True)
def neutral(plugin: Subject, entry: Entry) -> None:
    """With the options it registers as neutral={...} the sampler is the unguided one, bit for bit."""
    options = entry.metadata.get("neutral")
    if options is None:
        skip("it registers no neutral={options} that leave the sampler as it is.")
    guidance = _guidance(plugin, entry, **{**(_problem() if entry.metadata.get("posterior") else {}), **options})
    _, condition = _inputs()
    plain, guided = (
        sample(_oracle(), (2,), 4, nfe=6, solver="ddim", condition=condition, guidance=layer)
        for layer in (None, guidance)
    )
    require(torch.equal(plain, guided), f"with {options} the samples differ from those without guidance.")


@check("guidance.denoiser", "guidance")
def denoiser(plugin: Subject, entry: Entry) -> None:
    """It gives a denoiser on the same path whose kinds agree with one another and that leaves its input alone."""
    inner = _oracle()
    guided = _guidance(plugin, entry)(inner)
    require(isinstance(guided, Denoiser) and guided.path is inner.path, "it does not give a denoiser on the same path.")
    x, condition = _inputs()
    kept = x.clone()
    for t in TIMES:
        data = guided.predict(x, t, "data", **condition)
        require(data.shape == x.shape and data.dtype == x.dtype, f"it gives {tuple(data.shape)} {data.dtype}.")
        require(data.isfinite().all(), f"at t={t} the prediction is not finite.")
        noise = guided.predict(x, t, "noise", **condition)
        same = torch.allclose(inner.path.alpha(t) * data + inner.path.sigma(t) * noise, x, rtol=1e-7, atol=1e-7)
        require(same, f"at t={t} its data and noise predictions contradict each other.")
    require(torch.equal(x, kept), "it changes the state it is given.")


@check("guidance.rows", "guidance")
def rows(plugin: Subject, entry: Entry) -> None:
    """A row's prediction does not depend on the other rows."""
    guided = _guidance(plugin, entry)(_oracle())
    x, condition = _inputs()
    for t in TIMES:
        together = guided(x, t, **condition)
        for row in range(len(x)):
            part = slice(row, row + 1)
            alone = guided(x[part], t, **{name: value[part] for name, value in condition.items()})
            same = torch.allclose(alone, together[part], rtol=1e-7, atol=1e-9)
            require(same, f"at t={t} row {row} alone is guided differently than among {len(x)}.")


@check("guidance.posterior", "guidance", optional=True)
def posterior(plugin: Subject, entry: Entry) -> None:
    """On a linear-Gaussian problem (registered posterior=True) the samples have the posterior's mean and covariance."""
    if not entry.metadata.get("posterior"):
        skip("it does not register posterior=True, so it claims no law on a linear-Gaussian problem.")
    path = VPCosine()
    truth = LinearGaussianOracle(path, SOURCE_MEAN, SOURCE_COVARIANCE, OPERATOR, NOISE_STD)
    inner = GaussianOracle(path, SOURCE_MEAN, SOURCE_COVARIANCE)
    guidance = _guidance(plugin, entry)
    samples = sample(inner, (2,), 2000, nfe=60, guidance=guidance, dtype=torch.float64, batch_size=2000)
    mean = truth.posterior(MEASUREMENT[None])[0]
    spread = truth.covariance.diagonal().sqrt()
    off = float(((samples.mean(0) - mean) / spread).abs().max())
    require(off < 0.15, f"the samples' mean is {off:.2g} posterior deviations from the posterior's.")
    error = (samples.T.cov() - truth.covariance) / (spread[:, None] * spread)
    require(float(error.abs().max()) < 0.2, f"the samples' covariance is off by {float(error.abs().max()):.2g}.")
