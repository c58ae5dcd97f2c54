"""Sweeps: several runs that differ in a few settings, one after the other, and their comparison.

`space` reads what varies, `names` names the runs, `run_sweep` is the story, `search` has the values proposed by Optuna,
`record` is what stays on the disk, `comparison` compares.

Why: the runs of a sweep are ordinary runs in one process. Nothing of a run is kept for the next one but what the disk
and the libraries hold, so each gives the bits that it gives alone.
"""
