"""Metrics of sets of trajectories: whether they obey the dynamics, and what they return.

Closed-loop scores (normalised return, success, planning time) are those of :mod:`anydiff_trajectories.rollout`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.simulators import simulator


def _domain(samples: SampleSet) -> Trajectories:
    if not isinstance(samples.domain, Trajectories):
        raise AnydiffError(f"this metric judges trajectories, not {samples.domain.name}; choose another.")
    return samples.domain


def transitions(samples: SampleSet) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(o, a, o') of all consecutive rows, raw, ``[N * (horizon - 1), ...]``."""
    domain = _domain(samples)
    states = samples.states.double().cpu()
    observations, actions = domain.raw("observation", states).numpy(), domain.raw("action", states).numpy()
    flat = (observations[:, :-1], actions[:, :-1], observations[:, 1:])
    before, taken, after = (array.reshape(-1, array.shape[-1]) for array in flat)
    return before, taken, after


class DynamicsError(Metric):
    """Mean over transitions of ||(o' - f(o, a)) / s||² / d_o with f the simulator and s the reference's deviations.

    0 is a plan that the environment would follow exactly; 1 is as far off as observations are spread.
    """

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return MetricCard(
            name="trajectories/dynamics-error",
            direction="lower",
            unit="variance of the observations",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=10,
            features="the environment's own simulator",
            version="1: one step, mean over transitions and dimensions",
            uncertainty="samples",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The error; the reference gives the scale."""
        self.check(samples, reference)
        domain = _domain(samples)
        if not domain.environment:
            raise AnydiffError("dynamics-error needs the environment the data belong to; set domain.environment.")
        before, taken, after = transitions(samples)
        expected, _ = simulator(domain.environment, domain.environment_options)(before, taken)
        spread = _domain(reference).raw("observation", reference.states.double().cpu()).flatten(0, 1).std(0).numpy()
        return float((((after - expected) / np.maximum(spread, 1e-8)) ** 2).mean())


class GoalError(Metric):
    """Mean distance between where a plan ends and the goal it was asked for, in units of the observation.

    Plans with the goal as a known entry have none.
    """

    needs = ("goal",)

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        return MetricCard(
            name="trajectories/goal-error",
            direction="lower",
            unit="observation",
            range=(0.0, float("inf")),
            ideal=0.0,
            minimum_samples=1,
            version="1: Euclidean, last row",
            uncertainty="samples",
        )

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The distance."""
        self.check(samples, reference)
        domain = _domain(samples)
        if "goal" not in samples.condition.given:
            raise AnydiffError("goal-error needs samples that were asked for with a goal; give the condition goal.")
        ends = domain.raw("observation", samples.states.double().cpu())[:, -1, : domain.goal_size]
        goals = domain.raw_condition("goal", samples.condition.given["goal"])
        return float((ends - goals).norm(dim=1).mean())
