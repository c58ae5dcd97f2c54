"""Processes: everything that is exchanged between processes."""
