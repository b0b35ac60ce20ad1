"""Workflows: several rooms put together. Indexing, recipes, sweeps, reports, repair, derived arrays."""
