"""Metrics of volumes, each with a card. All see states in [-1, 1]; the data range is fixed at 2, never an image's own.

Paired metrics compare sample i with row i % n of the n reference volumes, which is how samples are asked for with the
reference's conditions (:meth:`anydiff.pipeline.Pipeline.evaluate`). ``of="mean"`` first averages the samples of each
reference volume: the estimate of a conditional mean that scores of single draws punish twice for its spread.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.nn import functional

from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.metrics import Metric, MetricCard, SampleSet, frechet_distance
from anydiff.states import standard_normal

DATA_RANGE = 2.0
BEST_PSNR = 100.0
Volume = NDArray[np.float64]


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """2 |A∩B| / (|A| + |B|); 1 where both are empty, 0 where only one is."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def label_dice(first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]]) -> dict[int, float]:
    """Dice of each label but 0 (background) that one of two label maps of the same shape holds.

    Raises:
        AnydiffError: maps of different shape.
    """
    if first.shape != second.shape:
        raise AnydiffError(
            f"the label maps have shapes {first.shape} and {second.shape}; bring them to one grid, with labels=True."
        )
    found = np.union1d(first, second)
    return {int(label): dice(first == label, second == label) for label in found if label != 0}


def psnr(sample: Volume, truth: Volume) -> float:
    """10 log10(2² / MSE) in dB, 100 dB at most: so that equal volumes have a number."""
    if np.array_equal(sample, truth):
        return BEST_PSNR
    return min(BEST_PSNR, float(peak_signal_noise_ratio(truth, sample, data_range=DATA_RANGE)))


def ssim(sample: Volume, truth: Volume) -> float:
    """SSIM with a three-dimensional Gaussian window, σ = 1.5 voxels (Wang et al. 2004), over the whole volume.

    The mean leaves out a rim of five voxels, or what of it fits into the smallest axis.
    """
    window = min(11, min(truth.shape) - 1 + min(truth.shape) % 2)
    value = structural_similarity(
        truth,
        sample,
        data_range=DATA_RANGE,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        win_size=window,
    )
    return float(value)


def nrmse(sample: Volume, truth: Volume) -> float:
    """RMSE / (max - min of the truth)."""
    return float(normalized_root_mse(truth, sample, normalization="min-max"))


class Paired(Metric):
    """A number per pair of sample and truth, averaged.

    Args:
        of: ``draws`` (each sample on its own) or ``mean`` (the mean of the samples of each reference volume).
    """

    title: str
    direction: Literal["lower", "higher"] = "higher"
    unit = "1"
    range: tuple[float, float] = (0.0, 1.0)
    ideal = 1.0
    version: str

    def __init__(self, of: str = "draws") -> None:
        if of not in ("draws", "mean"):
            raise UnknownNameError("estimate", str(of), ["draws", "mean"])
        self.of = of

    @property
    def card(self) -> MetricCard:
        """What the number means."""
        return MetricCard(
            name=f"volumes/{self.title}" + ("-of-mean" if self.of == "mean" else ""),
            direction=self.direction,
            unit=self.unit,
            range=self.range,
            ideal=self.ideal,
            minimum_samples=1,
            version=f"1: {self.version}; {'mean over draws' if self.of == 'draws' else 'of the mean of the draws'}",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The mean over pairs."""
        self.check(samples, reference)
        return float(np.mean(self.values(samples, reference)))

    def scores(self, samples: SampleSet, reference: SampleSet) -> list[float] | None:
        """The mean over the draws of each reference volume; None where some have a draw more."""
        count = min(len(samples), len(reference))
        if len(samples) % count:
            return None
        return [float(each) for each in np.reshape(self.values(samples, reference), (-1, count)).mean(axis=0)]

    def values(self, samples: SampleSet, reference: SampleSet) -> list[float]:
        """One value per sample, or per reference volume for ``of="mean"``."""
        drawn, truth = _arrays(samples), _arrays(reference)
        count = len(truth)
        if self.of == "mean":
            drawn = np.stack([drawn[row::count].mean(axis=0) for row in range(min(count, len(drawn)))])
        return [self.pair(drawn[row], truth[row % count]) for row in range(len(drawn))]

    def pair(self, sample: Volume, truth: Volume) -> float:
        """The value of one pair of volumes ``[X, Y, Z]``."""
        raise NotImplementedError


class PSNR(Paired):
    """Peak signal-to-noise ratio in dB, data range 2."""

    title, unit, range, ideal = "psnr", "dB", (float("-inf"), BEST_PSNR), BEST_PSNR
    version = "data range 2 (states), 100 dB at most"

    def pair(self, sample: Volume, truth: Volume) -> float:
        """See :func:`psnr`."""
        return psnr(sample, truth)


class SSIM(Paired):
    """Structural similarity with a three-dimensional window."""

    title, range = "ssim", (-1.0, 1.0)
    version = "3-D Gaussian window, sigma 1.5, data range 2, scikit-image"

    def pair(self, sample: Volume, truth: Volume) -> float:
        """See :func:`ssim`."""
        return ssim(sample, truth)


class NRMSE(Paired):
    """Root mean squared error over the range of the truth."""

    title, direction, range, ideal = "nrmse", "lower", (0.0, float("inf")), 0.0
    version = "RMSE / (max - min of the truth)"

    def pair(self, sample: Volume, truth: Volume) -> float:
        """See :func:`nrmse`."""
        return nrmse(sample, truth)


class Dice(Paired):
    """Overlap of what lies above a threshold of intensity: a segmentation that needs no network.

    Args:
        threshold: on the scale [0, 1] of the domain's volumes; 0.78 separates white matter in T1.
        of: see :class:`Paired`.
    """

    title = "dice"

    def __init__(self, threshold: float = 0.78, of: str = "draws") -> None:
        super().__init__(of)
        if not 0 < threshold < 1:
            raise AnydiffError(
                f"threshold is {threshold}, but must lie between 0 and 1 (share of the intensity range)."
            )
        self.threshold = threshold
        self.version = f"voxels above {threshold:g} of the range; 1 if both are empty, 0 if one is"

    def pair(self, sample: Volume, truth: Volume) -> float:
        """See :func:`dice`."""
        level = 2 * self.threshold - 1
        return dice(sample > level, truth > level)


class FrechetDistance(Metric):
    """Fréchet distance of Gaussians fitted to the features of a fixed three-dimensional random network.

    The weights are drawn from a seed, so the features are named by their hash and need no file. They see texture and
    layout at three scales; they are no substitute for an expert, nor comparable with any other network's numbers.
    """

    def __init__(self) -> None:
        self.features = random_features()

    @property
    def card(self) -> MetricCard:
        """Lower is better; biased upwards at small N."""
        return MetricCard(
            name="volumes/frechet-distance",
            direction="lower",
            unit="1",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=64,
            features=self.features.name,
            version="1: covariances over N-1, no bias correction",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Squared distance; compare values of one number of samples only."""
        self.check(samples, reference)
        found = [each.derived_rows(self.features.name, self._features) for each in (samples, reference)]
        return frechet_distance(*found)

    def _features(self, given: SampleSet) -> Tensor:
        return self.features(given.states)


class RandomFeatures:
    """Three rounds of 3 x 3 x 3 convolution, rectification and halving; mean and deviation of 8 channels each: 48.

    Attributes:
        name: says what it is, with the hash of its weights.
    """

    CHANNELS = 8

    def __init__(self, seed: int = 0) -> None:
        self.kernels = []
        inputs = 1
        for depth in range(3):
            numbers = standard_normal(seed, [0], depth, "volumes/features", (self.CHANNELS, inputs, 3, 3, 3))[0]
            self.kernels.append(torch.from_numpy(numbers) * (2 / (27 * inputs)) ** 0.5)
            inputs = self.CHANNELS
        digest = content_hash(*self.kernels)
        self.name = f"random 3-D convolutions @{digest[:12]}, {3 * 2 * self.CHANNELS} features"

    def __call__(self, states: Tensor) -> Tensor:
        """Features float64 ``[N, 48]`` of ``states [N, 1, X, Y, Z]`` in [-1, 1] (clamped)."""
        found = []
        for chunk in torch.split(states.detach().to("cpu", torch.float64).clamp(-1, 1), 16):
            hidden, parts = chunk, []
            for kernel in self.kernels:
                hidden = functional.relu(functional.conv3d(hidden, kernel, padding=1))
                parts += [hidden.mean(dim=(2, 3, 4)), hidden.std(dim=(2, 3, 4), correction=0)]
                hidden = functional.avg_pool3d(hidden, 2)
            found.append(torch.cat(parts, dim=1))
        return torch.cat(found)


@functools.cache
def random_features() -> RandomFeatures:
    """The features of seed 0, made once."""
    return RandomFeatures()


def _arrays(samples: SampleSet) -> NDArray[np.float64]:
    """States as float64 ``[N, X, Y, Z]``."""
    return samples.states.detach().to("cpu", torch.float64)[:, 0].numpy()
