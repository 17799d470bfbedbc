"""Metrics of restoration: errors of what a measurement does not show.

A task with a measurement (:attr:`anydiff.tasks.Task.measured`) tells them which entries these are, as ``hidden`` among
the truth of a condition: what a mask shows is known to everybody, and would only make all methods look alike.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.metrics.card import MetricCard
from anydiff.metrics.ensembles import EnsembleMetric, crps, members_per_case
from anydiff.metrics.metric import SampleSet

HIDDEN = "hidden"
"""The entry of :attr:`anydiff.states.Conditioning.truth`: bool ``[C, *shape]``, True where nothing was measured."""
UNITS = ("state", "field")


class HiddenMetric(EnsembleMetric):
    """A metric over the hidden entries; a subclass gives :meth:`score` of the members ``[entries, m]``.

    Args:
        units: ``state``, or ``field``: the domain's own (:meth:`anydiff.domains.Domain.units`), where the conditions of
            samples and truth may decide them differently.
    """

    about: str

    def __init__(self, units: Literal["state", "field"] = "state") -> None:
        if units not in UNITS:
            raise UnknownNameError("units", str(units), UNITS)
        self.units = units

    @property
    def card(self) -> MetricCard:
        """Lower is better; of the entries that were not measured."""
        return MetricCard(
            f"restoration/{self.about}", "lower", self.units, (0.0, math.inf), 0.0, 1,
            version="1: over the entries that were not measured, all cases together",
        )  # fmt: skip

    def values(self, samples: SampleSet) -> Tensor:
        """``[N, D]`` float64."""
        states = samples.states.detach().to("cpu", torch.float64)
        if self.units == "state":
            return states.flatten(1)
        scale, offset = samples.domain.units(samples.condition)
        return (states * scale + offset).flatten(1)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Group the samples into members and score them where the truth is hidden.

        Raises:
            AnydiffError: nothing says what was measured.
        """
        self.check(samples, reference)
        hidden = reference.condition.truth.get(HIDDEN)
        if hidden is None:
            raise AnydiffError(
                f"{self.card.name} judges what a measurement does not show, but nothing was measured; use it in a task "
                "with measured=."
            )
        cases = min(len(samples), len(reference))
        members = len(samples) // cases
        grouped = members_per_case(self.values(samples)[: members * cases], cases)
        kept = hidden[:cases].flatten(1)
        return self.score(grouped.transpose(1, 2)[kept], self.values(reference)[:cases][kept], None)


class HiddenError(HiddenMetric):
    """Mean squared error of the hidden entries.

    Args:
        of: ``draws``: each member by itself; ``mean``: the mean of the members.
        units: see :class:`HiddenMetric`.
    """

    def __init__(self, of: Literal["draws", "mean"] = "draws", units: Literal["state", "field"] = "state") -> None:
        super().__init__(units)
        if of not in ("draws", "mean"):
            raise UnknownNameError("of", str(of), ("draws", "mean"))
        self.of = of
        self.about = "mse" if of == "draws" else "mse-of-mean"

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """Of ``members [entries, m]``."""
        found = members if self.of == "draws" else members.mean(1, keepdim=True)
        return float((found - truth[:, None]).square().mean())


class HiddenCRPS(HiddenMetric):
    """CRPS of the hidden entries, standard estimator: that of the finite ensemble as it is used."""

    about = "crps"

    def score(self, members: Tensor, truth: Tensor, weights: Tensor | None) -> float:
        """Of ``members [entries, m]``."""
        return float(crps(members, truth).mean())
