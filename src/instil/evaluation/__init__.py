"""Measures what a model says: metrics, tasks, comparison, report."""
