"""Rounds sizes up, so that half-precision matrix products on a CPU have few different shapes.

oneDNN, which computes bf16 products on a CPU, generates code for every new shape and keeps it until the process ends.
A shape costs about 0.7 MB and 2 ms, whatever the capacity of its cache (docs/how-it-works/notes/model.md). A run over examples of
all lengths would grow without limit. With sixteen sizes between one power of two and the next, it needs a few dozen
shapes. The padding has weight 0 and changes results only by rounding.
"""

from __future__ import annotations

SMALLEST_GRAIN = 32
SIZES_PER_OCTAVE = 16


def grain_of(size: int) -> int:
    """Return the multiple that a size is rounded up to: a sixteenth of the power of two below it, at least 32.

    Example:
        >>> grain_of(300), grain_of(1024), grain_of(1025), grain_of(5000)
        (32, 32, 64, 256)
    """
    return max(SMALLEST_GRAIN, 2 ** ((size - 1).bit_length() - 1) // SIZES_PER_OCTAVE) if size > 1 else SMALLEST_GRAIN


def round_up(size: int) -> int:
    """Return the rounded size; 0 stays 0.

    Example:
        >>> round_up(1), round_up(300), round_up(1500), round_up(5000)
        (32, 320, 1536, 5120)
    """
    grain = grain_of(size)
    return -(-size // grain) * grain
