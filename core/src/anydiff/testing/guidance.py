"""Guidance, around an exact denoiser: neutral where it says so, row by row, consistent, of the exact law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, GaussianMixtureOracle, GaussianOracle, LinearGaussianOracle
from anydiff.denoisers.wrappers import Wrapper
from anydiff.paths import VPCosine
from anydiff.registry import Entry
from anydiff.samplers import sample
from anydiff.states import Conditioning
from anydiff.testing.kit import NUMBERS, check
from anydiff.testing.subject import Subject, require, skip

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.6, -0.9]], dtype=torch.float64)
TIMES = (0.9, 0.4, 0.05)
SHAPES = ((5,), (4, 3), (3, 4, 6), (1, 3, 4, 5))
"""Shapes of states beside points in the plane: a vector, a set or a series, a colour image, a volume."""
SOURCE_MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
SOURCE_COVARIANCE = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
OPERATOR = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
MEASUREMENT, NOISE_STD = torch.tensor([0.8], dtype=torch.float64), 0.3


def _oracle() -> Denoiser:
    return GaussianMixtureOracle(VPCosine(), MEANS, 0.3, classes=torch.tensor([0, 1, 1]))


def _inputs() -> tuple[Tensor, Conditioning]:
    x = torch.tensor([[0.3, -0.4], [-1.2, 0.5], [1.0, 0.9], [0.0, 0.1]], dtype=torch.float64)
    return x, Conditioning({"label": torch.tensor([0, 1, 1, 0])})


def _guidance(plugin: Subject, entry: Entry, **options: object) -> Wrapper:
    if entry.metadata.get("posterior") is True and not options:
        options = _problem()
    guidance: Wrapper = plugin.build(entry, **options)
    what = "which is neither a Guidance nor another Wrapper"
    require(isinstance(guidance, Wrapper), f"it builds a {type(guidance).__name__}, {what}.")
    return guidance


def _problem() -> dict[str, object]:
    return {"operator": OPERATOR, "measurement": MEASUREMENT, "noise_std": NOISE_STD}


def _one_direction(names: Mapping[str, str]) -> dict[str, object]:
    """The problem as options of guidance that takes a row of the operator, a number and its noise, by its own names."""
    problem = {"operator": OPERATOR[0], "measurement": float(MEASUREMENT), "noise_std": NOISE_STD}
    return {names.get(name, name): value for name, value in problem.items()}


@check("guidance.neutral", "guidance", optional=True, states=NUMBERS)
def neutral(plugin: Subject, entry: Entry) -> None:
    """With the options it registers as neutral={...} the sampler is the unguided one, bit for bit."""
    options = entry.metadata.get("neutral")
    if options is None:
        skip("it registers no neutral={options} that leave the sampler as it is.")
    guidance = _guidance(
        plugin, entry, **{**(_problem() if entry.metadata.get("posterior") is True else {}), **options}
    )
    _, condition = _inputs()
    plain, guided = (
        sample(_oracle(), (2,), 4, nfe=6, solver="ddim", condition=condition, guidance=layer)
        for layer in (None, guidance)
    )
    require(torch.equal(plain, guided), f"with {options} the samples differ from those without guidance.")


@check("guidance.denoiser", "guidance", states=NUMBERS)
def denoiser(plugin: Subject, entry: Entry) -> None:
    """It gives a denoiser on the same path whose kinds agree with one another and that leaves its input alone."""
    for inner, x, condition in _problems(plugin, entry):
        # A run for each kind: what remembers earlier calls would count two kinds of one time as two times.
        runs = [_run(plugin, entry, inner, range(len(x))) for _ in range(2)]
        same = all(isinstance(guided, Denoiser) and guided.path is inner.path for guided in runs)
        require(same, "it does not give a denoiser on the same path.")
        kept = x.clone()
        for t in TIMES:
            _check_prediction(runs, inner, x, t, condition)
        require(torch.equal(x, kept), "it changes the state it is given.")


def _run(plugin: Subject, entry: Entry, inner: Denoiser, samples: Sequence[int]) -> Denoiser:
    """``inner`` guided through one run, by a guidance that has guided nothing before."""
    return _guidance(plugin, entry).for_run(samples)(inner)


def _check_prediction(runs: Sequence[Denoiser], inner: Denoiser, x: Tensor, t: float, condition: Conditioning) -> None:
    data = runs[0].predict(x, t, "data", condition)
    what = f"for states of shape {tuple(x.shape[1:])} at t={t}"
    right = data.shape == x.shape and data.dtype == x.dtype
    require(right, f"{what} it gives {tuple(data.shape)} {data.dtype}, not {tuple(x.shape)} {x.dtype}.")
    require(data.isfinite().all(), f"{what} the prediction is not finite.")
    noise = runs[1].predict(x, t, "noise", condition)
    rounding = 1e-7 if x.dtype == torch.float64 else 1e-3
    back = inner.gaussian_path.alpha(t) * data + inner.gaussian_path.sigma(t) * noise
    same = torch.allclose(back, x, rtol=rounding, atol=rounding)
    require(same, f"{what} its data and noise predictions contradict each other.")


@check("guidance.rows", "guidance", states=NUMBERS)
def rows(plugin: Subject, entry: Entry) -> None:
    """A row's prediction does not depend on the other rows, whatever the shape of a state."""
    for inner, x, condition in _problems(plugin, entry):
        everyone = _run(plugin, entry, inner, range(len(x)))
        runs = [_run(plugin, entry, inner, [row]) for row in range(len(x))]
        rounding = 1e-7 if x.dtype == torch.float64 else 1e-3
        for t in TIMES:
            together = everyone(x, t, condition)
            for row in range(len(x)):
                part = slice(row, row + 1)
                alone = runs[row](x[part], t, condition.rows(part))
                same = torch.allclose(alone, together[part], rtol=rounding, atol=rounding)
                what = f"at t={t} row {row} of shape {tuple(x.shape[1:])}"
                require(same, f"{what} alone is guided differently than among {len(x)}.")


@check("guidance.runs", "guidance", states=NUMBERS)
def runs(plugin: Subject, entry: Entry) -> None:
    """What it draws or remembers is of one run (``for_run``): nothing that it guided before changes a sample."""
    inner, x, condition = _problems(plugin, entry)[0]
    last = condition.rows(slice(2, None))
    options: dict[str, Any] = {"nfe": 6, "solver": "ddim", "batch_size": 2, "dtype": x.dtype}
    shape, fresh, used = x.shape[1:], _guidance(plugin, entry), _guidance(plugin, entry)
    alone = sample(inner, shape, [2, 3], condition=last, guidance=fresh, **options)
    after = sample(inner, shape, 4, condition=condition, guidance=used, **options)[2:]
    same = torch.equal(alone, after)
    require(same, "samples differ by what it guided before; keep what it remembers in what for_run(samples) returns.")


def _problems(plugin: Subject, entry: Entry) -> list[tuple[Denoiser, Tensor, Conditioning]]:
    """Denoisers and states to try: points, sets of points, images, whole numbers, in double and single precision.

    Only what claims the law of the problem of two numbers (``posterior=True``) is tried on that alone; other guidance
    must take each shape, or refuse it in a sentence and register ``shapes=[[1, 24]]``, those that it is made for.
    """
    x, condition = _inputs()
    found: list[tuple[Denoiser, Tensor, Conditioning]] = []
    asked = entry.metadata.get("shapes")
    if asked is None:
        found.append((_oracle(), x, condition))
    if entry.metadata.get("posterior") is True:
        return found
    generator = torch.Generator().manual_seed(29)
    for shape in [tuple(each) for each in asked] if asked is not None else SHAPES:
        for dtype in (torch.float64, torch.float32):
            means = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
            inner = GaussianMixtureOracle(VPCosine(), means, 0.3, classes=torch.tensor([0, 1, 1]))
            states = torch.randn(4, *shape, generator=generator, dtype=torch.float64).to(dtype)
            found.append((inner, states.round() if dtype == torch.float64 else states, condition))
    return found


@check("guidance.posterior", "guidance", optional=True, states=NUMBERS)
def posterior(plugin: Subject, entry: Entry) -> None:
    """On a linear-Gaussian problem (registered posterior=True) the samples have the posterior's mean and covariance.

    Guidance that is made for more, and takes one linear measurement under other names, registers these:
    posterior={"operator": "direction", "measurement": "target"}.
    """
    claimed = entry.metadata.get("posterior")
    if not claimed:
        skip("it does not register posterior=True, so it claims no law on a linear-Gaussian problem.")
    path = VPCosine()
    truth = LinearGaussianOracle(path, SOURCE_MEAN, SOURCE_COVARIANCE, OPERATOR, NOISE_STD)
    inner = GaussianOracle(path, SOURCE_MEAN, SOURCE_COVARIANCE)
    guidance = _guidance(plugin, entry) if claimed is True else _guidance(plugin, entry, **_one_direction(claimed))
    samples = sample(inner, (2,), 2000, nfe=60, guidance=guidance, dtype=torch.float64, batch_size=2000)
    check_law(samples, truth, MEASUREMENT)


def check_law(samples: Tensor, truth: LinearGaussianOracle, measurement: Tensor) -> None:
    """Fail unless mean and covariance of ``samples [N, d]`` are those of the exact posterior, within sampling error."""
    mean = truth.posterior(measurement[None])[0]
    spread = truth.covariance.diagonal().sqrt()
    off = float(((samples.mean(0) - mean) / spread).abs().max())
    require(off < 0.15, f"the samples' mean is {off:.2g} posterior deviations from the posterior's.")
    error = (samples.T.cov() - truth.covariance) / (spread[:, None] * spread)
    require(float(error.abs().max()) < 0.2, f"the samples' covariance is off by {float(error.abs().max()):.2g}.")
