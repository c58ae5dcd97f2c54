"""Checkpoints: a run as bits on disk, and back."""
