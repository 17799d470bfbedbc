"""Cards: what a number means, and when two numbers may share a column.

Two values may be compared only if their cards are equal: same metric, estimator version, feature network (by hash) and
reference data. :func:`require_same_card` is the guard every table goes through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from anydiff.errors import AnydiffError

Uncertainty = Literal["cases", "samples", "set"]
"""What an interval of a value rests on; see :class:`MetricCard`."""


@dataclass(frozen=True)
class MetricCard:
    """What a number means.

    Attributes:
        name: the registered name of the metric.
        direction: whether lower or higher is better.
        unit: unit of the value; ``"1"`` for a plain number.
        range: least and greatest possible value.
        ideal: the value of perfect samples, in the limit of many.
        minimum_samples: fewer samples, on either side, are refused.
        features: name and hash of the feature network, or of whatever else the number depends on; empty if nothing.
        version: which estimator, in words and a number that changes when values do.
        dtype: in which the value is computed.
        library: name and version of the library that computes it; empty for anydiff itself.
        oracle_of: K where the best of K samples per case is chosen with the truth. Such a value is no quality of a
            forecast, so it is printed apart with its K; 0 for a metric that chooses nothing.
        uncertainty: what is drawn independently of each other, so what an interval of the value rests on: ``"cases"``
            of paired samples and truths (forecasts, estimates, closed loops), ``"samples"`` whose scores are averaged
            (validity), or the ``"set"`` of samples as a whole (Fréchet distance, MMD). Whoever makes a table fills in
            ``"cases"`` for metrics that are registered with ``paired=True``.
        reference: hash of the reference data; filled in by whoever makes a table.
    """

    name: str
    direction: Literal["lower", "higher"]
    unit: str
    range: tuple[float, float]
    ideal: float
    minimum_samples: int
    features: str = ""
    version: str = "1"
    dtype: str = "float64"
    library: str = ""
    oracle_of: int = 0
    uncertainty: Uncertainty = "set"
    reference: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The card as plain data for a results file."""
        return asdict(self)


@dataclass(frozen=True)
class Score:
    """One value of a metric, with its card and how many samples it saw.

    Attributes:
        value: the number; NaN where the metric has none for these samples.
        card: what it means.
        samples: how many it was computed of.
        problem: why there is no value, or what is wrong with it, in one sentence; empty where all is well.
        units: of closed loops, the value of each case; their mean is the value. Empty where that is not known.
    """

    value: float
    card: MetricCard
    samples: int
    problem: str = ""
    units: tuple[float, ...] = ()


def require_same_card(cards: Sequence[MetricCard]) -> MetricCard:
    """The one card all ``cards`` equal.

    Raises:
        AnydiffError: two cards differ; the sentence names the first field in which they do.
    """
    if not cards:
        raise AnydiffError("no metric card was given; give at least one.")
    first = cards[0].as_dict()
    for card in cards[1:]:
        for name, value in card.as_dict().items():
            if value != first[name]:
                raise AnydiffError(
                    f"two values of {cards[0].name!r} cannot share a column: {name} is {first[name]!r} for one and "
                    f"{value!r} for the other; compute both with one metric."
                )
    return cards[0]
