"""Measurements of held-out examples: what a task of restoration tells a method of the truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.inverse import Problem
from anydiff.inverse.operators import Mask
from anydiff.metrics import SampleSet
from anydiff.metrics.restoration import HIDDEN
from anydiff.states import Conditioning
from anydiff.tasks.task import Task, load_reference


def measured_problem(task: Task, truth: SampleSet, rows: Sequence[int]) -> Problem:
    """What was measured of the held-out examples ``rows``, which ``truth`` holds; in the field's units, a row per case.

    Raises:
        AnydiffError: the task has no measurement, or its function gives something else than a problem of these rows.
    """
    if task.measured is None:
        raise AnydiffError(f"task {task.id!r} has no measurement; name one that has ('images/inpaint').")
    made = load_reference(task.measured, f"the measurement of task {task.id!r}")(truth, list(rows))
    if not isinstance(made, Problem) or made.cases != len(rows):
        what = f"{made.cases} cases" if isinstance(made, Problem) else type(made).__name__
        raise AnydiffError(
            f"the measurement of task {task.id!r} gave {what} for {len(rows)} held-out examples; return an "
            "anydiff.inverse.Problem with one row for each."
        )
    return made


def with_hidden(condition: Conditioning, problem: Problem, count: int) -> Conditioning:
    """``condition`` of ``count`` rows, row i of case i % cases, with what the measurement does not show: metrics judge
    that alone. A mask shows its entries; another operator shows none."""
    shape = problem.operator.shape
    hidden = torch.ones(problem.cases, *shape, dtype=torch.bool)
    if isinstance(problem.operator, Mask):
        hidden = ~problem.operator.observed(problem.measurement)
    return _with_truth(condition, hidden[torch.arange(count) % problem.cases])


def _with_truth(condition: Conditioning, hidden: Tensor) -> Conditioning:
    told = dict(condition.tensors())
    return Conditioning.from_tensors({**told, f"truth.{HIDDEN}": hidden})
