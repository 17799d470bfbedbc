"""Losses of a batch: one number of all examples together, which no sum over examples is (a discrepancy, pairs).

A term says what it makes of each example, and a number of what all of them gave. Called by itself the batch that it is
called with is the whole one. A training hands it a :class:`Coupling`, which knows the other micro batches and devices
(:mod:`anydiff.training.coupled`): then cutting a batch into micro batches changes nothing but rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.objectives.terms import Term

if TYPE_CHECKING:
    from anydiff.objectives.call import Call


class Coupling(ABC):
    """Knows what the examples of other micro batches and devices gave."""

    collects: bool = False
    """Whether nothing but what coupled terms make is asked for now."""

    @abstractmethod
    def losses(self, name: str, term: Coupled, outputs: Mapping[str, Tensor]) -> Tensor:
        """Losses ``[rows]`` whose mean over the whole batch has its loss as value and as gradient.

        Args:
            name: of the term, unique in its objective.
            term: gives the loss of the whole batch.
            outputs: what the term makes of these rows.
        """


class Coupled(Term):
    """A loss of all examples of the global batch. A subclass gives :meth:`outputs` and :meth:`batch_loss`."""

    couples = True

    @abstractmethod
    def outputs(self, call: Call) -> Mapping[str, Tensor]:
        """What the loss is a function of, by names of its own: tensors ``[rows, ...]``, row by row of the batch.

        A row depends on its own example alone. Gradients flow through those that have a graph.
        """

    @abstractmethod
    def batch_loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The loss, a number without axes, of the outputs ``[all rows, ...]`` of the whole batch, in its order."""

    def loss(self, call: Call) -> Tensor:
        """``[rows]``: the loss of the batch in every row; see :class:`Coupling` for its gradient.

        Raises:
            AnydiffError: an output has not one row per row of the batch.
        """
        outputs = dict(self.outputs(call))
        rows = len(call.clean)
        for name, value in outputs.items():
            if value.ndim == 0 or len(value) != rows:
                raise AnydiffError(
                    f"the output {name!r} of the term {type(self).__name__} has shape {tuple(value.shape)}, but needs "
                    f"one row for each of the {rows} of the batch."
                )
        if call.coupling is not None:
            return call.coupling.losses(call.draws.name, self, outputs)
        return self.batch_loss(outputs).expand(rows)
