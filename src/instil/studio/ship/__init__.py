"""Measuring runs and shipping them: what evaluations found, what exports hold, and their download."""
