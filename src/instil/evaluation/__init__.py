"""Measure a model's answers: metrics, tasks, comparison and report."""
