"""Benchmark tasks of graphs and molecules."""

from __future__ import annotations

from anydiff.tasks import Task


def qm9() -> Task:
    """QM9 molecules without guidance, against resampled training molecules and a model of independent entries."""
    return Task(
        name="molecules/qm9",
        version=2,
        recipe="molecules/qm9",
        help="200 molecules of up to 9 heavy atoms",
        samples=200,
        minimum_cases=48,
        baselines={"marginal": "anydiff_molecules.baselines:marginal"},
        budget_seconds=60.0,
    )


def zinc() -> Task:
    """ZINC molecules without guidance, against the same baselines; outside of quick suites, its graphs are larger."""
    return Task(
        name="molecules/zinc",
        version=2,
        recipe="molecules/zinc",
        help="200 drug-like molecules of up to 20 heavy atoms",
        samples=200,
        minimum_cases=48,
        baselines={"marginal": "anydiff_molecules.baselines:marginal"},
        tier="full",
        budget_seconds=120.0,
    )


def community_small() -> Task:
    """Two-community graphs, against training graphs and Erdős-Rényi graphs of the same sizes and density."""
    return Task(
        name="graphs/community-small",
        version=1,
        recipe="graphs/community-small",
        help="100 graphs of two communities, 12 to 20 nodes",
        samples=100,
        minimum_cases=48,
        baselines={"erdos-renyi": "anydiff_molecules.baselines:erdos_renyi"},
        budget_seconds=60.0,
    )
