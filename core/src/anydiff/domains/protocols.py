"""What a domain may offer beside :class:`~anydiff.domains.Domain`: a domain fulfils a protocol by having its method.

Nothing needs to be derived or registered; the core asks ``isinstance(domain, Evaluates)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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
class TakesScaffold(Protocol):
    """A user can name by a text what must stay as it is: ``anydiff sample --known TEXT``."""

    def parse_known(self, text: str) -> Known:
        """A clean state ``[*spec.shape]`` and which of its entries are known: a scaffold.

        Raises:
            AnydiffError: the text is wrong.
        """


@runtime_checkable
class HasCoordinates(Protocol):
    """Something stands along the axes of :meth:`~anydiff.domains.Domain.arrays`: places, times."""

    def coordinates(self) -> dict[str, LabelledArray]:
        """What stands along the axes, by name, once for all samples."""


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
