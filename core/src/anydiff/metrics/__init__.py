"""Metrics: cards, scores, what a metric compares, distances and scores of ensembles that several domains share."""

from anydiff.metrics.card import MetricCard, Score, require_same_card
from anydiff.metrics.ensembles import EnsembleMetric, members_per_case, repeat_cases
from anydiff.metrics.metric import Metric, SampleSet

__all__ = [
    "EnsembleMetric",
    "Metric",
    "MetricCard",
    "SampleSet",
    "Score",
    "members_per_case",
    "repeat_cases",
    "require_same_card",
]
