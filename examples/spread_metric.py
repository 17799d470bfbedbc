"""A metric in one file, for any domain: are the samples as far from one another as real data are?

Try `anydiff --plugins-dir examples evaluate RUN` with `spread_metric` among the recipe's metrics.
"""

import math

import torch

from anydiff import hookimpl
from anydiff.metrics import Metric, MetricCard


@hookimpl
def register_metrics(register):
    register("spread_metric", "relative difference of mean squared distances", "spread_metric:Spread")


class Spread(Metric):
    """|log(s / r)| with s and r the mean squared distance to the mean, of samples and of reference."""

    card = MetricCard("spread_metric", "lower", "1", (0.0, math.inf), 0.0, minimum_samples=10)

    def compute(self, samples, reference):
        self.check(samples, reference)
        spread = [_spread(states.flatten(1).double()) for states in (samples.states, reference.states)]
        return abs(math.log(spread[0] / spread[1]))


def _spread(rows):
    return float(torch.cdist(rows.mean(0, keepdim=True), rows).square().mean())
