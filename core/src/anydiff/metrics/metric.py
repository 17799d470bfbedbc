"""Metrics: a number that compares a sample set with a reference; what the number means stands on its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from anydiff.domains import Domain
from anydiff.errors import AnydiffError, NonFiniteError
from anydiff.metrics.card import MetricCard
from anydiff.states import Conditioning

T = TypeVar("T")
Rows = TypeVar("Rows", Tensor, list[Any])


@dataclass(frozen=True)
class SampleSet:
    """States with their conditions and the domain that reads them; generated or real alike.

    Attributes:
        states: ``[N, *domain.spec.shape]``.
        condition: what is given beside the states, N rows; for samples, what was asked for.
        domain: the codec.
        labels: of each row, by :meth:`anydiff.pipeline.Dataset.case_labels`; None where nothing tells the rows apart.
        untold: whether nothing tells of which case of the reference each sample is. Metrics that are registered as
            ``paired=True`` or ``oracle=True`` then have no value.
    """

    states: Tensor
    condition: Conditioning
    domain: Domain = field(repr=False)
    labels: Sequence[Any] | None = field(default=None, repr=False, compare=False)
    untold: bool = False
    _derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _whole: tuple[SampleSet, Sequence[int]] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.domain.spec.check(self.states)
        self.condition.checked(len(self))

    def __len__(self) -> int:
        return int(self.states.shape[0])

    def rows(self, indices: Sequence[int]) -> SampleSet:
        """The samples at ``indices``, in that order."""
        chosen = list(indices)
        labels = None if self.labels is None else [self.labels[row] for row in chosen]
        part = SampleSet(self.states[chosen], self.condition.rows(chosen), self.domain, labels, self.untold)
        object.__setattr__(part, "_whole", (self, chosen))
        return part

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

    def derived_rows(self, key: Hashable, compute: Callable[[SampleSet], Rows]) -> Rows:
        """As :meth:`derived`, for a result with one entry per sample (a tensor's rows, a list): :meth:`rows` of a set
        take theirs from the set, so that intervals, which judge a set without some of its rows, compute nothing twice.

        Args:
            key: names what is computed, with everything that it depends on beside the set.
            compute: entry k of its result depends on sample k alone.
        """
        if key in self._derived or self._whole is None:
            return self.derived(key, compute)
        whole, chosen = self._whole
        found = whole.derived_rows(key, compute)
        rows: Any = found[chosen] if isinstance(found, Tensor) else [found[row] for row in chosen]
        kept: Rows = self.derived(key, lambda each: rows)
        return kept

    def forget_derived(self) -> None:
        """Forget what :meth:`derived` keeps, after the states were put back to what they were."""
        self._derived.clear()
        object.__setattr__(self, "_whole", None)

    def asked(self, count: int) -> Conditioning:
        """What a model may be asked with for ``count`` samples, sample i being of case i % n: the first min(count, n)
        rows of the conditions, without the weights of the loss and without what only metrics may know.
        """
        return self.condition.asked().rows(slice(count))


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

    def scores(self, samples: SampleSet, reference: SampleSet) -> Sequence[float] | None:
        """The score of each case (of each sample, where none belongs to a case), whose mean is the value.

        None, the default, where the value is no mean or need not be asked so: an interval then asks for the value again
        without each part, which costs 16 times as much.
        """
        return None

    def check(self, samples: SampleSet, reference: SampleSet) -> None:
        """Refuse what the metric cannot judge.

        Raises:
            AnydiffError: fewer samples than the card allows, two different state shapes, or a class that is none (a
                mask that is left, say).
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
            given.domain.spec.check_classes(given.states, f"the {what}")
        if samples.states.shape[1:] != reference.states.shape[1:]:
            raise AnydiffError(
                f"samples have shape {tuple(samples.states.shape[1:])}, but the reference has "
                f"{tuple(reference.states.shape[1:])}; compare states of one domain."
            )
