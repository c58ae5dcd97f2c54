"""Attention over whole examples laid end to end."""
