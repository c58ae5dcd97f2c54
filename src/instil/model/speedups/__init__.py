"""Speedups: may be deleted; each is proved to give the same losses."""
