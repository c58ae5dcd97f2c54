"""Memory: bytes before and during a run."""
