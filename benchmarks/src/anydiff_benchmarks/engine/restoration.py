"""Tasks with a measurement: what a method is told of the truth, and the samples that inverse methods draw of it.

The measurement comes from the process that holds the truth (:mod:`anydiff_benchmarks.engine.truth`), in the field's
units. Samples of every method, told or not, carry the conditions by which the measurement decides the units of states,
so that metrics read them in the field's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.errors import NotApplicableError
from anydiff.inverse import Problem
from anydiff.inverse.operators import Mask
from anydiff.metrics import SampleSet
from anydiff.pipeline import Pipeline, restore_set, units_of
from anydiff.recipes import Part
from anydiff.states import Conditioning


@dataclass(frozen=True)
class Told:
    """What was measured of some cases.

    Attributes:
        problem: in the field's units, one row per case.
        states: the same in units of states.
        decides: the conditions by which it decides these units, one row per case.
    """

    problem: Problem
    states: Problem
    decides: Mapping[str, Tensor]

    @classmethod
    def of(cls, pipeline: Pipeline, problem: Problem, given: Conditioning) -> Told:
        """``given`` is what a model may be told beside, one row per case."""
        scale, offset, decides = units_of(pipeline.domain, problem.operator, problem.measurement, given)
        return cls(problem, problem.in_states(scale, offset), decides)

    def beside(self, samples: SampleSet) -> SampleSet:
        """The samples, row i of case i % cases, with what decides their units."""
        rows = torch.arange(len(samples)) % self.problem.cases
        own = {name: value.expand(self.problem.cases, *value.shape[1:])[rows] for name, value in self.decides.items()}
        return SampleSet(samples.states, samples.condition.with_given(**own), samples.domain)

    def known(self) -> dict[str, Tensor]:
        """The measured entries as known ones, one row per case: what ``guidance: known`` replaces.

        Raises:
            NotApplicableError: something else than entries was measured.
        """
        if not isinstance(self.states.operator, Mask):
            raise NotApplicableError("known entries are those of a mask, and this task measures something else.")
        mask = self.states.operator.observed(self.states.measurement)
        return {"known": self.states.measurement.float(), "known_mask": mask}


def restored_samples(
    pipeline: Pipeline, told: Told, inverse: Part, count: int, sampling: Mapping[str, Any]
) -> SampleSet:
    """``count`` samples by an inverse method, row i of case i % cases; ``sampling`` as :meth:`Pipeline.sample` takes
    it."""
    problem = told.problem
    return restore_set(
        pipeline, problem.measurement, operator=problem.operator, noise=problem.noise, method=inverse.name,
        method_options=inverse.options, members=max(1, count // problem.cases), cases=problem.cases, **sampling,
    )  # fmt: skip
