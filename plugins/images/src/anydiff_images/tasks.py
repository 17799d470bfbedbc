"""Benchmark tasks on images, frozen in ``tasks.lock.json``."""

from __future__ import annotations

from anydiff.tasks import Task


def fashion() -> Task:
    """Class-conditional Fashion-MNIST on the bundled images, labels as in the held-out data."""
    return Task(name="images/fashion", version=1, recipe="images/fashion", samples=500, minimum_cases=160)


def fashion_2k() -> Task:
    """The same with as many samples as there are held-out images."""
    return Task(
        name="images/fashion-2k", version=1, recipe="images/fashion", samples=2000, tier="full", budget_seconds=300
    )
