"""The benchmark task of texts."""

from __future__ import annotations

from anydiff.recipes import Part
from anydiff.tasks import Task


def shakespeare() -> Task:
    """64 texts of 256 characters beside an n-gram sampler; models come from runs, since none is bundled."""
    return Task(
        name="text/shakespeare",
        version=1,
        recipe="text/shakespeare",
        help="64 texts of 256 characters of Shakespeare",
        samples=64,
        minimum_cases=16,
        metrics=tuple(Part(name=f"text/{each}") for each in ("judge-departure", "ngram-divergence", "copied")),
        baselines={"ngram": "anydiff_text.baselines:ngram"},
        tier="full",
        budget_seconds=120.0,
    )
