"""Tasks × methods × budgets × seeds, their results and the report."""

from anydiff.benchmark.task import Task

__all__ = ["Task"]
