"""Metrics of texts: how alike their n-grams are, what an independent judge says of them, and what is copied."""

from __future__ import annotations

from collections import Counter

import numpy as np

from anydiff.errors import natural_number
from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff_text.judge import COPIED, ORDER, copied, judge


class NgramDivergence(Metric):
    """Jensen-Shannon divergence, in bits, of the frequencies of n tokens in a row; ends are left out.

    It grows as samples become few, so numbers of different counts of samples do not compare.

    Args:
        n: tokens in a row, at least 1.
    """

    def __init__(self, n: int = 3) -> None:
        self.n = natural_number("n", n)

    @property
    def card(self) -> MetricCard:
        """Lower is better; 0 where both have the same frequencies, 1 where they share none."""
        return MetricCard(
            name="text/ngram-divergence",
            direction="lower",
            unit="bit",
            range=(0.0, 1.0),
            ideal=0.0,
            minimum_samples=2,
            version=f"1, {self.n} tokens",
            uncertainty="set",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The divergence."""
        self.check(samples, reference)
        one, two = (each.derived(("ngrams", self.n), self._counted) for each in (samples, reference))
        names = sorted({*one, *two})
        p, q = (np.array([counts[name] for name in names], dtype=np.float64) for counts in (one, two))
        p, q = p / max(p.sum(), 1), q / max(q.sum(), 1)
        middle = (p + q) / 2
        found = sum(float((a[a > 0] * np.log2(a[a > 0] / middle[a > 0])).sum()) for a in (p, q)) / 2
        return min(max(found, 0.0), 1.0)

    def _counted(self, samples: SampleSet) -> Counter[tuple[int, ...]]:
        end = samples.domain.spec.leaves[0].classes
        assert end is not None
        counts: Counter[tuple[int, ...]] = Counter()
        for row in samples.states.long().tolist():
            stop = row.index(end - 1) if end - 1 in row else len(row)
            counts.update(tuple(row[begin : begin + self.n]) for begin in range(stop - self.n + 1))
        return counts


class JudgeDeparture(Metric):
    """|b(samples) - b(reference)|, b the bits per character that an independent n-gram model needs for texts.

    The judge (:mod:`anydiff_text.judge`) was fitted on held-out Shakespeare that no model is trained on. Fewer bits are
    not better by themselves: one line that is repeated needs hardly any. Texts of other alphabets are judged, too, but
    the judge knows nothing of them.
    """

    @property
    def card(self) -> MetricCard:
        """Lower is better; 0 where samples are as likely to the judge as held-out texts are."""
        return MetricCard(
            name="text/judge-departure",
            direction="lower",
            unit="bit",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=2,
            version=f"1, {ORDER} characters",
            uncertainty="set",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The departure."""
        self.check(samples, reference)
        one, two = (each.derived(("judge",), judged_bits) for each in (samples, reference))
        return abs(one - two)


class Copied(Metric):
    """The share of runs of 32 characters in the samples that stand in the training texts of Shakespeare.

    Noise copies nothing, so the number says something of good samples alone: read it beside the others. Held-out texts
    have about 0.001, phrases that Shakespeare uses twice.
    """

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return MetricCard(
            name="text/copied",
            direction="lower",
            unit="1",
            range=(0.0, 1.0),
            ideal=0.0,
            minimum_samples=2,
            version=f"1, {COPIED} characters",
            uncertainty="set",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The share; 0 where no sample has so many characters."""
        self.check(samples, reference)
        found = copied(_texts(samples))
        return 0.0 if np.isnan(found) else found


def judged_bits(samples: SampleSet) -> float:
    """Bits per character of samples under the judge; those of a uniform character where no sample has one."""
    texts = [text for text in _texts(samples) if text]
    return judge().bits(texts) if texts else float(np.log2(judge().kinds))


def _texts(samples: SampleSet) -> list[str]:
    found: list[str] = samples.domain.decode(samples.states)
    return found
