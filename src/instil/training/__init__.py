"""Training: who is in which step, the loop, the optimizer, checkpoints, and the run folder."""
