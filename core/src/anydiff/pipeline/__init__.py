"""What a user holds: domains, metrics, recipes, runs and pipelines (DESIGN 7 and 9)."""

from anydiff.pipeline.dataset import ArrayDataset, Dataset
from anydiff.pipeline.domain import Domain, LabelledArray
from anydiff.pipeline.ensemble import EnsembleMetric, members_per_case, repeat_cases
from anydiff.pipeline.judging import Score
from anydiff.pipeline.metrics import Metric, MetricCard, SampleSet
from anydiff.pipeline.pipeline import Pipeline, load
from anydiff.pipeline.recipe import Part, Recipe, SamplingSettings, load_recipe
from anydiff.pipeline.train import train

__all__ = [
    "ArrayDataset",
    "Dataset",
    "Domain",
    "EnsembleMetric",
    "LabelledArray",
    "Metric",
    "MetricCard",
    "Part",
    "Pipeline",
    "Recipe",
    "SampleSet",
    "SamplingSettings",
    "Score",
    "load",
    "load_recipe",
    "members_per_case",
    "repeat_cases",
    "train",
]
