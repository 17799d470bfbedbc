"""Tasks × methods × budgets × seeds, their results and the report."""
