"""Preference tuning: its checks, the reference, and how such a run starts. The step is in `training.step`."""
