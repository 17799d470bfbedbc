"""The engine of the benchmark: tasks × methods × budgets × seeds, their results and the report."""
