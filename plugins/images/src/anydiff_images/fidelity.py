"""How near each restored image is to its own truth: PSNR and SSIM, of bytes as they are written, range 255.

Sample i is of row i % n of the n reference images, which is how samples are asked for with the reference's conditions
(:meth:`anydiff.pipeline.Pipeline.evaluate`).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff_images.domain import Images

PEAK = 255.0
BEST_PSNR = 100.0
WINDOW, SIGMA = 11, 1.5


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """10 log10(255² / MSE) in dB, float64 ``[N]``, of images ``[N, C, H, W]`` in bytes; the MSE is over all entries.

    100 dB at most, so that equal images have a number.
    """
    error = (images.double() - truth.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(PEAK**2 / error)).clamp(max=BEST_PSNR)


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, float64 ``[N]``, of images ``[N, C, H, W]`` in bytes (Wang et al. 2004).

    Local means and (biased) variances under a Gaussian window of 11 x 11 and σ = 1.5, constants 0.01 and 0.03; the mean
    is over the windows that lie inside the image, and over channels.

    Raises:
        AnydiffError: images smaller than the window.
    """
    if min(images.shape[-2:]) < WINDOW:
        raise AnydiffError(
            f"images of {images.shape[-2]}x{images.shape[-1]} are smaller than the window of SSIM, {WINDOW}x{WINDOW}; "
            "choose the metric images/psnr."
        )
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.softmax(-(at**2) / (2 * SIGMA**2), dim=0)
    x, y = (each.double().flatten(0, 1)[:, None] for each in (images, truth))
    mean_x, mean_y, xx, yy, xy = (_smoothed(each, weights) for each in (x, y, x * x, y * y, x * y))
    first, second = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    likeness = (2 * mean_x * mean_y + first) * (2 * (xy - mean_x * mean_y) + second)
    spread = (mean_x**2 + mean_y**2 + first) * (xx - mean_x**2 + yy - mean_y**2 + second)
    return (likeness / spread).reshape(len(images), -1).mean(1)


def _smoothed(images: Tensor, weights: Tensor) -> Tensor:
    """Under the window ``weights`` x ``weights``: along the columns, then along the rows."""
    return functional.conv2d(functional.conv2d(images, weights[None, None, :, None]), weights[None, None, None])


class _Fidelity(Metric):
    @abstractmethod
    def pairs(self, images: Tensor, truth: Tensor) -> Tensor:
        """The value of each pair ``[N]``."""

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The mean over the samples."""
        return float(self._values(samples, reference).mean())

    def scores(self, samples: SampleSet, reference: SampleSet) -> list[float] | None:
        """The mean over the samples of each reference image; None where some have a sample more."""
        count = min(len(samples), len(reference))
        if len(samples) % count:
            return None
        found: list[float] = self._values(samples, reference).reshape(-1, count).mean(0).tolist()
        return found

    def _values(self, samples: SampleSet, reference: SampleSet) -> Tensor:
        self.check(samples, reference)
        rows = torch.arange(len(samples)) % len(reference)
        return self.pairs(_bytes(samples), _bytes(reference)[rows])


class PSNR(_Fidelity):
    """Peak signal-to-noise ratio of each sample against its own truth, averaged over samples."""

    @property
    def card(self) -> MetricCard:
        """Higher is better; in dB."""
        return MetricCard(
            name="images/psnr", direction="higher", unit="dB", range=(0.0, BEST_PSNR), ideal=BEST_PSNR,
            minimum_samples=1, version="1: bytes, range 255, mean of dB over samples, 100 dB at most",
        )  # fmt: skip

    def pairs(self, images: Tensor, truth: Tensor) -> Tensor:
        """See :func:`psnr`."""
        return psnr(images, truth)


class SSIM(_Fidelity):
    """Structural similarity of each sample with its own truth, averaged over samples."""

    @property
    def card(self) -> MetricCard:
        """Higher is better; 1 where both are equal."""
        return MetricCard(
            name="images/ssim", direction="higher", unit="1", range=(-1.0, 1.0), ideal=1.0, minimum_samples=1,
            version="1: bytes, range 255, Gaussian window 11x11 of sigma 1.5, biased variances, windows inside",
        )  # fmt: skip

    def pairs(self, images: Tensor, truth: Tensor) -> Tensor:
        """See :func:`ssim`."""
        return ssim(images, truth)


def _bytes(samples: SampleSet) -> Tensor:
    """The images as they are written, ``[N, C, H, W]``; states of another domain on the scale [-1, 1]."""
    if isinstance(samples.domain, Images):
        return samples.domain.pixels(samples.states.detach().cpu())
    return ((samples.states.detach().cpu().double() + 1) * (PEAK / 2)).round().clamp(0, PEAK)
