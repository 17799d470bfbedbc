"""Training at one noise level per step, for losses that compare examples with one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from anydiff.states import Draws
from anydiff.training.examples import Examples
from anydiff.training.method import Losses, ObjectiveMethod


class SharedTime(ObjectiveMethod):
    """The objective's loss moves the network, and all examples of a step are seen at one time.

    At different times predictions of clean data are sharp to different degrees, so their similarities would say more of
    the times than of the examples. The time of a step follows the objective's own law over the steps; micro batches,
    devices and resumption do not change it. With several noise levels each level has one time.
    """

    def step(self, examples: Examples, progress: float, groups: Sequence[str]) -> Losses:
        """``{"network": terms}``, as without it, at the step's own time."""
        rows, levels = len(examples.clean), len(examples.uniform) // len(examples.clean)
        draws = examples.draws or Draws(0, range(rows), levels)
        uniform = draws.shared("time of the step").to(examples.uniform)
        return super().step(replace(examples, uniform=uniform), progress, groups)
