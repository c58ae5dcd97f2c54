"""How many threads the tokenizers library works with, which decides how its time is best used."""

from __future__ import annotations

import os

_OFF = ("false", "0", "off", "no", "f", "n")


def tokenizer_has_threads() -> bool:
    """Say whether the tokenizers library spreads a batch over several threads.

    It does unless ``TOKENIZERS_PARALLELISM`` is off, ``RAYON_NUM_THREADS`` is 1, or the process may use one core only.
    """
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in _OFF or os.environ.get("RAYON_NUM_THREADS") == "1":
        return False
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(cores) > 1
