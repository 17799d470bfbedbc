"""Tasks: what a benchmark measures, and the lock of what was published. ``anydiff-benchmarks`` runs them."""

from anydiff.tasks.task import Task

__all__ = ["Task"]
