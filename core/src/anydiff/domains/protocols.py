"""What a domain may offer beside :class:`~anydiff.domains.Domain`: a domain fulfils a protocol by having its method.

Nothing needs to be derived or registered; the core asks ``isinstance(domain, Evaluates)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from anydiff.domains.domain import LabelledArray, Report
from anydiff.states import Conditioning, Known

if TYPE_CHECKING:
    from anydiff.metrics.card import Score


@runtime_checkable
class FixesEntries(Protocol):
    """Conditions of the domain fix entries of a state: a plan's start and goal, say."""

    def known_entries(self, condition: Conditioning) -> Known | None:
        """Values and mask ``[B, *spec.shape]`` of the entries that ``condition`` fixes; None if it fixes none.

        Samples then have them exactly (:class:`~anydiff.denoisers.wrappers.KnownEntries`).
        """


@runtime_checkable
class FixesParts(FixesEntries, Protocol):
    """The conditions that fix entries are no conditions of the network: a label that is a part of the state, say.

    Attributes:
        fixes: their names, which :meth:`~anydiff.domains.Domain.parse_condition` takes beside the domain's conditions.
    """

    fixes: tuple[str, ...]


@runtime_checkable
class TakesScaffold(Protocol):
    """A user can name by a text what must stay as it is: ``anydiff sample --known TEXT``."""

    def parse_known(self, text: str) -> Known:
        """A clean state ``[*spec.shape]`` and which of its entries are known: a scaffold.

        Or several states ``[B, *spec.shape]``, of files that hold more than one object; then a sample is drawn for
        each, or the same number for each.

        Raises:
            AnydiffError: the text is wrong.
        """


@runtime_checkable
class HasCoordinates(Protocol):
    """Something stands along the axes of :meth:`~anydiff.domains.Domain.arrays`: places, times."""

    def coordinates(self) -> dict[str, LabelledArray]:
        """What stands along the axes, by name, once for all samples."""


@runtime_checkable
class HasUnits(Protocol):
    """States can be turned into the field's own units by torch operations, so that a reward of those is one of states.

    ``anydiff optimise`` and :meth:`anydiff.pipeline.Pipeline.optimise` give rewards these values.
    """

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """``states [B, *shape]`` in the field's own units, ``[B, *its axes]``, differentiable, row by row.

        ``condition`` has one row per state: it may decide the units (the day of the year, the level of a series).
        Values are not rounded, and clamped only where the field has no others.
        """


@runtime_checkable
class NamesCases(Protocol):
    """Conditions that a user gives may name cases: a file of many forecasts, say. Samples are then drawn for each."""

    def labels(self, text: Mapping[str, str]) -> list[Any] | None:
        """What tells the cases apart that ``text`` names, one entry per case: a forecast's times, a series' name.

        None where the texts name no cases (a class, say) and go for any number of samples.
        """


@runtime_checkable
class TakesObjects(Protocol):
    """Conditions of the domain are native objects: a degraded picture that is restored, say."""

    def encode_given(self, name: str, objects: Any) -> Tensor | None:
        """Tensor ``[N, *shape]`` of what a user gave as the condition ``name``: native objects, or a tensor already.

        None where the condition ``name`` is numbers, which need no codec.

        Raises:
            AnydiffError: objects that do not fit.
        """


@runtime_checkable
class LabelsSamples(Protocol):
    """The field's objects hold the name of the case that they are of."""

    def labelled(self, objects: Sequence[Any], labels: Sequence[Any], members: Sequence[int]) -> list[Any]:
        """``objects``, each with the label of its case and the number of its member.

        Args:
            objects: as :meth:`Domain.decode` makes them.
            labels: of each object's case, by :meth:`NamesCases.labels` or by the data set.
            members: the number of each object among the samples of its case.
        """


@runtime_checkable
class MatchesCases(Protocol):
    """Objects made elsewhere tell the case that they are of, so that none is paired by its place in a file."""

    def match(self, objects: Sequence[Any], labels: Sequence[Any]) -> list[int] | None:
        """The place among ``labels`` of the case of which each of ``objects``, made elsewhere, is a sample.

        None where these objects do not tell their case; sample i then belongs to case i % n.

        Raises:
            AnydiffError: an object is of no such case, or of more than one.
        """


@runtime_checkable
class HasLabelArrays(Protocol):
    """Sample sets on disk hold the names of their cases as arrays."""

    def label_arrays(self, labels: Sequence[Any]) -> dict[str, LabelledArray]:
        """The labels of n cases, beside what :meth:`Domain.arrays` gives; an axis of n is called ``case``."""


@runtime_checkable
class Evaluates(Protocol):
    """A model can be put to a trial in the field, which gives scores that no set of samples can have."""

    def evaluate(
        self, pipeline: Any, count: int, *, seed: int = 0, report: Report | None = None, **options: Any
    ) -> dict[str, Score]:
        """Scores such as the return of a controller that plans with ``pipeline``, by name; empty for a model that
        cannot be tried. ``anydiff evaluate`` shows them beside the recipe's metrics.

        Args:
            pipeline: the model.
            count: how many trials.
            seed: of the trials and of the samples.
            report: told the progress.
            options: for :meth:`Pipeline.sample`.
        """
