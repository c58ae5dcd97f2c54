"""Attention over a flat micro-batch: whole examples laid end to end, each of which attends to itself only."""
