"""What a user holds: domains, metrics, recipes, runs and pipelines (DESIGN 7 and 9)."""
