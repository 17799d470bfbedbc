"""Metrics: cards, scores, what a metric compares, distances and scores of ensembles that several domains share."""

from anydiff.metrics.card import MetricCard, Score, Uncertainty, require_same_card
from anydiff.metrics.distances import (
    Manifold,
    frechet_distance,
    kernel_distance,
    precision_recall,
    sliced_wasserstein,
)
from anydiff.metrics.ensembles import (
    CoverageError,
    EnsembleCRPS,
    EnsembleMetric,
    EnsembleRMSE,
    FairEnsembleCRPS,
    RankHistogramDistance,
    SpreadSkill,
    coverage,
    crps,
    members_per_case,
    outer_bins,
    rank_histogram,
    repeat_cases,
    root_mean_squared_error,
    spread_skill_ratio,
)
from anydiff.metrics.jackknife import UnitValues, blocks_of, student_quantile, t_interval, unit_values
from anydiff.metrics.judging import Judge
from anydiff.metrics.metric import Metric, SampleSet

__all__ = [
    "CoverageError",
    "EnsembleCRPS",
    "EnsembleMetric",
    "EnsembleRMSE",
    "FairEnsembleCRPS",
    "Judge",
    "Manifold",
    "Metric",
    "MetricCard",
    "RankHistogramDistance",
    "SampleSet",
    "Score",
    "SpreadSkill",
    "Uncertainty",
    "UnitValues",
    "blocks_of",
    "coverage",
    "crps",
    "frechet_distance",
    "kernel_distance",
    "members_per_case",
    "outer_bins",
    "precision_recall",
    "rank_histogram",
    "repeat_cases",
    "require_same_card",
    "root_mean_squared_error",
    "sliced_wasserstein",
    "spread_skill_ratio",
    "student_quantile",
    "t_interval",
    "unit_values",
]
