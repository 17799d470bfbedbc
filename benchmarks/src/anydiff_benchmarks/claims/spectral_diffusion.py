"""Spectral Diffusion: in which order frequencies are recovered, and a slim student held to its teacher's spectrum."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.distillation import Spectral
from anydiff.networks import MLP, UNet
from anydiff.objectives import Denoising, Sum, Weighted
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, StateSpec
from anydiff.training import TrainingSettings
from anydiff_benchmarks.claims._training import Held, trained
from anydiff_benchmarks.claims.base import Claim, Verdict

EXACT = {1: 546, 2: 418, 4: 279, 8: 160, 16: 82, 32: 39}
"""Frequency -> the last of 1,000 steps at which more than half of it is recovered."""
VARIANTS: dict[str, tuple[float | None, str]] = {
    "from scratch": (None, "gated-wavelets"),
    "spectrum, weighted": (-1.0, "gated-wavelets"),
    "spectrum, unweighted": (0.0, "gated-wavelets"),
    "spectrum, weighted, strided": (-1.0, "strided"),
}
CLAIM = Claim(
    slug="spectral_diffusion",
    paper="Yang et al. 2023, Diffusion probabilistic model made slim, CVPR 2023, arXiv:2211.17106",
    says="Low frequencies are recovered at much noise and high ones near the data, and a small network loses the high "
    "ones. Sub-bands gated by sample and time, and a distillation weighted by the inverse of the teacher's spectrum, "
    "give a network of 8 to 18 times fewer multiply-adds most of the quality back.",
    check="A: Gaussian sequences of 64 numbers, power 1/f² of mean 1, 1,000 steps of the linear rate: the last step at "
    "which the optimal denoiser recovers more than half of a frequency, and the same of an MLP (256 wide, 3 blocks, "
    "3,000 steps of 256), by the relative error of each frequency over 4,000 sequences. B: fields of 16 x 16 of power "
    "1/f² with a random straight edge; a U-Net of 32 channels is trained for 1,500 steps of 64, students of 8 channels "
    "with gated sub-bands for 1,000 steps of 32: from scratch, and with 0.1 of the distance to the teacher's spectrum "
    "added, weighted by its inverse magnitudes or not; one with strided convolutions is printed beside them. 2,000 "
    "samples, DDIM with 50 calls: root mean square difference of the logarithms of the mean power of rings 6 to 8 of 8 "
    "(the upper third) to that of 20,000 fields.",
    threshold="In every seed. A: the exact steps are 546, 418, 279, 160, 82, 39 for f = 1, 2, 4, 8, 16, 32, within 1, "
    "and those of the MLP lie within 60 of them, in the same order. B: the weighted student is at least 15 % nearer "
    "than the one from scratch, and no farther than the unweighted one. What gating brings decides nothing.",
    seeds=(0, 1, 2),
    minutes=14,
    files=("anydiff/distillation/spectral.py", "anydiff/networks/wavelets.py"),
    recipes=("images/fashion network.options.channels=16 network.options.resampling=gated-wavelets",),
)
PATH = VPLinear()
LENGTH, SIDE, STEPS = 64, 16, 1000
LINE, FIELD = StateSpec.single((LENGTH,), name="sequence"), StateSpec.single((1, SIDE, SIDE), name="field")
UPPER = (6, 7, 8)
"""Rings of frequency of the upper third."""


def _settings(steps: int, batch: int, seed: int) -> TrainingSettings:
    return TrainingSettings(
        steps=steps, batch_size=batch, learning_rate=1e-3, schedule="cosine", ema_decay=0.995, seed=seed,
        checkpoint_every=steps, log_every=steps,
    )  # fmt: skip


# A: the order of frequencies ------------------------------------------------------------------------------------------


def power() -> Tensor:
    """P(f) of f = 1 to 32, of mean 1."""
    frequencies = torch.arange(1, LENGTH // 2 + 1, dtype=torch.float64)
    return frequencies**-2 / (frequencies**-2).mean()


def sequences(count: int, seed: int) -> Tensor:
    """Gaussian sequences of that power, ``[count, 64]``."""
    noise = torch.randn(count, LENGTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spectrum = torch.fft.rfft(noise, norm="ortho")
    spectrum *= torch.cat([torch.zeros(1, dtype=torch.float64), power()]).sqrt()
    made: Tensor = torch.fft.irfft(spectrum, n=LENGTH, norm="ortho")
    return made.float()


def snr() -> Tensor:
    """α²/σ² of the steps 1 to 1,000 of the linear rate of DDPM."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, STEPS, dtype=torch.float64), 0)
    return kept / (1 - kept)


def last_steps(recovered: Tensor, steps: Tensor) -> dict[int, int]:
    """Frequency -> the last of ``steps`` at which more than half is ``recovered [steps, 32]``; 0 where none is."""
    found = {}
    for frequency in EXACT:
        there = steps[recovered[:, frequency - 1] > 0.5]
        found[frequency] = int(there.max()) if len(there) else 0
    return found


@torch.no_grad()
def order_of_frequencies(seed: int) -> dict[str, float]:
    """The last steps of the optimal denoiser and of a trained one."""
    ratio = snr()
    gain = ratio[:, None] * power() / (1 + ratio[:, None] * power())
    found = {f"A: exact, f = {f}": float(step) for f, step in last_steps(gain, torch.arange(1, STEPS + 1)).items()}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network: nn.Module = MLP(LINE, {}, width=256, blocks=3)
        fresh = NetworkDenoiser(network, PATH, "edm", sigma_data=1.0, spec=LINE)
        loss = Denoising("edm", times_mean=0.0, times_std=1.5)
        denoiser = trained(
            fresh, loss, Held("sequences", sequences(40_000, 50 + seed), LINE), _settings(3000, 256, seed)
        )
    clean = sequences(4000, 900 + seed)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(7 + seed))
    whole = torch.fft.rfft(clean, norm="ortho").abs().square().mean(0)[1:]
    steps, recovered = torch.arange(5, STEPS, 5), []
    for step in steps.tolist():
        t = PATH.time(ratio[step - 1 : step].log() / 2)
        missed = (
            denoiser(PATH.alpha(t).float() * clean + PATH.sigma(t).float() * noise, float(t), UNCONDITIONAL) - clean
        )
        recovered.append(1 - torch.fft.rfft(missed, norm="ortho").abs().square().mean(0)[1:] / whole)
    trained_steps = last_steps(torch.stack(recovered), steps)
    return found | {f"A: trained, f = {f}": float(step) for f, step in trained_steps.items()}


# B: students ----------------------------------------------------------------------------------------------------------


def fields(count: int, seed: int) -> Tensor:
    """Gaussian fields of power 1/f², each with a straight edge somewhere: ``[count, 1, 16, 16]``."""
    random = np.random.default_rng([23, seed])
    axis = np.fft.fftfreq(SIDE, 1 / SIDE)
    size = np.sqrt(axis[:, None] ** 2 + axis**2)
    size[0, 0] = np.inf
    amplitude = 1 / size / np.sqrt((1 / size**2).mean())
    smooth = np.fft.ifft2(np.fft.fft2(random.standard_normal((count, SIDE, SIDE))) * amplitude).real
    angle, offset = random.uniform(0, 2 * np.pi, (2, count, 1, 1)) / np.array([1, np.pi]).reshape(2, 1, 1, 1)
    places = np.arange(SIDE) - (SIDE - 1) / 2
    across = np.cos(angle) * places[:, None] + np.sin(angle) * places
    edge = np.where(across > 3 * (offset - 1), 1.0, -1.0)
    return torch.tensor(0.7 * smooth + 0.5 * edge, dtype=torch.float32)[:, None]


def ring_power(states: Tensor) -> Tensor:
    """The logarithm of the mean power of the rings 1 to 8."""
    size = torch.fft.fft2(states[:, 0].double(), norm="ortho").abs().square().mean(0)
    axis = torch.fft.fftfreq(SIDE, 1 / SIDE, dtype=torch.float64)
    ring = (axis[:, None].square() + axis.square()).sqrt().round()
    return torch.stack([size[ring == number].mean() for number in range(1, SIDE // 2 + 1)]).log()


def unet(channels: int, resampling: str, seed: int) -> NetworkDenoiser:
    """A U-Net that predicts noise, fresh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = UNet(FIELD, {}, channels=channels, multipliers=(1, 2), patch_size=2, resampling=resampling)
    return NetworkDenoiser(network, PATH, "noise", sigma_data=0.86, spec=FIELD)


@functools.cache
def data() -> Held:
    """The fields to train on."""
    return Held("fields", fields(20_000, 0), FIELD)


@functools.cache
def teacher() -> NetworkDenoiser:
    """The large network, the same for all seeds."""
    return trained(unet(32, "strided", 0), Denoising(), data(), _settings(1500, 64, 0)).requires_grad_(False)


def students(seed: int) -> dict[str, float]:
    """The distance of the upper third of the spectrum, of the teacher and of each student."""
    truth = ring_power(fields(20_000, 1))
    models = {"teacher": teacher()}
    for name, (exponent, resampling) in VARIANTS.items():
        parts = {"denoising": Weighted(Denoising(), 1.0)}
        if exponent is not None:
            parts["spectral"] = Weighted(Spectral(exponent), 0.1)
        asked = None if exponent is None else copy.deepcopy(teacher())
        fresh = unet(8, resampling, 100 + seed)
        models[name] = trained(fresh, Sum(parts), data(), _settings(1000, 32, seed), asked)
    found = {}
    for name, denoiser in models.items():
        made = sample(denoiser, FIELD, 2000, solver="ddim", nfe=50, seed=seed)
        apart = ring_power(made) - truth
        found[f"B: upper third, {name}"] = float(apart[[ring - 1 for ring in UPPER]].square().mean().sqrt())
    return found


def measure(seed: int) -> dict[str, float]:
    """Both parts."""
    return {**order_of_frequencies(seed), **students(seed)}


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Every gate in every seed."""

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    exact = all(abs(row[f"A: exact, f = {f}"] - step) <= 1 for row in rows for f, step in EXACT.items())
    near = all(abs(row[f"A: trained, f = {f}"] - step) <= 60 for row in rows for f, step in EXACT.items())
    order = all(
        row[f"A: trained, f = {low}"] > row[f"A: trained, f = {high}"]
        for row in rows
        for low, high in itertools.pairwise(EXACT)
    )
    scratch, weighted, plain, strided = (column(f"B: upper third, {name}") for name in VARIANTS)
    ratios = [b / a if a > 0 else math.nan for a, b in zip(scratch, weighted, strict=True)]
    nearer = all(0 <= ratio <= 0.85 for ratio in ratios)
    no_farther = all(0 <= a <= b < math.inf for a, b in zip(weighted, plain, strict=True))
    found = {f: ", ".join(f"{step:.0f}" for step in column(f"A: trained, f = {f}")) for f in EXACT}
    steps = "; ".join(f"f = {f}: {found[f]} ({step})" for f, step in EXACT.items())
    return Verdict(
        "reproduced" if exact and near and order and nearer and no_farther else "not reproduced",
        f"Last step at which half is recovered, trained (exact): {steps}. Distance of the upper third of the spectrum: "
        f"from scratch {_listed(scratch)}, weighted {_listed(weighted)} (ratio {_listed(ratios)}), unweighted "
        f"{_listed(plain)}, weighted without gates {_listed(strided)}, "
        f"teacher {_listed(column('B: upper third, teacher'))}.",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
