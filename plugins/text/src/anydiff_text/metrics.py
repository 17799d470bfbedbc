"""How alike the n-grams of texts are: a metric of samples against held-out texts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from anydiff.errors import natural_number
from anydiff.metrics import Metric, MetricCard, SampleSet


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
