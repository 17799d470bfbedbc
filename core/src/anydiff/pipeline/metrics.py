"""Metrics with cards: what a number means, and when two numbers may share a column.

Two values may be compared only if their cards are equal: same metric, estimator version, feature network (by hash) and
reference data. :func:`require_same_card` is the guard every table goes through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from torch import Tensor

from anydiff.errors import AnydiffError, NonFiniteError
from anydiff.pipeline.domain import Domain
from anydiff.training.examples import TRUTH

T = TypeVar("T")


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
    reference: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The card as plain data for a results file."""
        return asdict(self)


@dataclass(frozen=True)
class SampleSet:
    """States with their conditions and the domain that reads them; generated or real alike.

    Attributes:
        states: ``[N, *domain.spec.shape]``.
        condition: batch-first conditions, ``[N, ...]`` each; for samples, what was asked for.
        domain: the codec.
        labels: of each row, by :meth:`anydiff.pipeline.Dataset.case_labels`; None where nothing tells the rows apart.
    """

    states: Tensor
    condition: Mapping[str, Tensor]
    domain: Domain = field(repr=False)
    labels: Sequence[Any] | None = field(default=None, repr=False, compare=False)
    _derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.domain.spec.check(self.states)
        for name, value in self.condition.items():
            if len(value) != len(self):
                raise AnydiffError(
                    f"condition {name!r} has {len(value)} rows, but the sample set has {len(self)}; give one row per "
                    "sample."
                )

    def __len__(self) -> int:
        return int(self.states.shape[0])

    def rows(self, indices: Sequence[int]) -> SampleSet:
        """The samples at ``indices``, in that order."""
        chosen = list(indices)
        labels = None if self.labels is None else [self.labels[row] for row in chosen]
        condition = {name: value[chosen] for name, value in self.condition.items()}
        return SampleSet(self.states[chosen], condition, self.domain, labels)

    def derived(self, key: Hashable, compute: Callable[[SampleSet], T]) -> T:
        """``compute(self)``, worked out once and kept with the set: what several metrics, or many sample sets judged by
        the same reference, need of it (features, decoded objects).

        Args:
            key: names what is computed, with everything that it depends on beside the set.
            compute: its result is shared, so nobody may change it.
        """
        if key not in self._derived:
            self._derived[key] = compute(self)
        result: T = self._derived[key]
        return result

    def forget_derived(self) -> None:
        """Forget what :meth:`derived` keeps, after the states were put back to what they were."""
        self._derived.clear()

    def asked(self, count: int) -> dict[str, Tensor]:
        """What a model may be asked with for ``count`` samples, sample i being of case i % n: the first min(count, n)
        rows of the conditions, without the weights of the loss and without what only metrics may know (``truth_...``).
        """
        hidden = [name for name in self.condition if name == "loss_mask" or name.startswith(TRUTH)]
        return {name: value[:count] for name, value in self.condition.items() if name not in hidden}


class Metric(ABC):
    """A number that compares a sample set with a reference. Deterministic, and independent of order and batching.

    Attributes:
        needs: the conditions that the samples must carry ("label", say); without them the metric cannot be computed.
    """

    needs: tuple[str, ...] = ()

    @property
    @abstractmethod
    def card(self) -> MetricCard:
        """What the number means."""

    @abstractmethod
    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The value for ``samples`` against ``reference`` (real data, unseen in training where it matters)."""

    def check(self, samples: SampleSet, reference: SampleSet) -> None:
        """Refuse what the metric cannot judge.

        Raises:
            AnydiffError: fewer samples than the card allows, or two different state shapes.
            NonFiniteError: a state is not finite.
        """
        for what, given in (("sample set", samples), ("reference", reference)):
            if len(given) < self.card.minimum_samples:
                raise AnydiffError(
                    f"{self.card.name} needs at least {self.card.minimum_samples} samples, but the {what} has "
                    f"{len(given)}; give more or choose another metric."
                )
            if not given.states.isfinite().all():
                bad = (~given.states.isfinite()).flatten(1).any(dim=1).nonzero()[0].item()
                raise NonFiniteError(
                    f"row {bad} of the {what} holds a value that is not finite, so {self.card.name} is undefined; "
                    "look at the sampler."
                )
        if samples.states.shape[1:] != reference.states.shape[1:]:
            raise AnydiffError(
                f"samples have shape {tuple(samples.states.shape[1:])}, but the reference has "
                f"{tuple(reference.states.shape[1:])}; compare states of one domain."
            )


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
