"""Metrics of speech, each with a card: words and voices that a classifier hears, distances of features and of spectra.

The features are those of the classifier named in the card (see :mod:`anydiff_audio.classifier`). Values of different
cards do not share a column.
"""

from __future__ import annotations

import torch

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet, frechet_distance
from anydiff_audio.classifier import FEATURES, load_classifier
from anydiff_audio.domain import Sounds
from anydiff_audio.names import LABELS
from anydiff_audio.spectra import log_magnitudes


class _Heard(Metric):
    """The share of sounds in which the classifier hears the class that was asked for."""

    condition: str
    title: str

    def __init__(self) -> None:
        self.classifier = load_classifier()
        self.needs = (self.condition,)

    @property
    def card(self) -> MetricCard:
        """Higher is better; names the classifier and its accuracy."""
        known = self.classifier.accuracy[self.condition]
        return MetricCard(
            name=self.title,
            direction="higher",
            unit="1",
            range=(0.0, 1.0),
            ideal=1.0,
            minimum_samples=28,
            features=f"classifier {self.classifier.name}, accuracy {known:.4f} on other changes of recordings it knows",
            version="1: top-1",
            uncertainty="samples",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Share in [0, 1]; the reference is only checked.

        Raises:
            AnydiffError: the samples were not asked for with this condition, or have other classes.
        """
        self.check(samples, reference)
        if self.condition not in samples.condition.given:
            raise AnydiffError(f"{self.title} needs sounds that were asked for with a {self.condition}; give it.")
        domain = samples.domain
        if isinstance(domain, Sounds) and domain.class_names.get(self.condition) != LABELS[self.condition]:
            raise AnydiffError(
                f"the sounds have other classes of {self.condition} than the classifier {self.classifier.name}, which "
                f"knows {LABELS[self.condition]}; choose metrics of this data set."
            )
        found = self.classifier.judge(samples.states).found[self.condition]
        return float((found == samples.condition.given[self.condition].to(found)).double().mean())


class WordAccuracy(_Heard):
    """Share of sounds in which the classifier hears the number that was asked for."""

    condition, title = "number", "audio/word-accuracy"


class VoiceAccuracy(_Heard):
    """Share of sounds in which the classifier hears the voice that was asked for."""

    condition, title = "voice", "audio/voice-accuracy"


class FrechetDistance(Metric):
    """Fréchet distance of Gaussians fitted to the classifier's features; biased up at small N."""

    def __init__(self) -> None:
        self.classifier = load_classifier()

    @property
    def card(self) -> MetricCard:
        """Lower is better; needs twice as many samples as there are features."""
        return MetricCard(
            name="audio/frechet-distance",
            direction="lower",
            unit="1",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=2 * FEATURES,
            features=f"classifier {self.classifier.name}, {FEATURES} features",
            version="1: covariances over N-1, no bias correction",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Squared distance; compare values of one number of samples only."""
        self.check(samples, reference)
        return frechet_distance(*(self.classifier.judge(each.states).features for each in (samples, reference)))


class LogSpectralDistance(Metric):
    """Root mean square difference of the mean log spectra of two sets of sounds, over frequencies."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return MetricCard(
            name="audio/log-spectral-distance",
            direction="lower",
            unit="dB",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=28,
            version="1: windows of 256 samples every 64, mean over sounds and time, floor -100 dB",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The distance in dB."""
        self.check(samples, reference)
        one, two = (
            log_magnitudes(each.states.double().flatten(0, 1)).mean(dim=(0, 2)) for each in (samples, reference)
        )
        return float(torch.sqrt((one - two).square().mean()))
