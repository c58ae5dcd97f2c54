"""Write numbers, sizes and durations for people, in one way everywhere.

Tables, log lines and errors word sizes, durations and counts of things with these functions.

Why: a GB is 2**30 bytes here, as in nvidia-smi's and torch's figures, so that our figures can be compared with theirs.
"""

from __future__ import annotations

import math
from typing import Any

_FOUR_DECIMALS = 0.001
"""Below this, four decimals show fewer than two significant digits."""
_LETTERS = ((10**9, "B"), (10**6, "M"), (10**3, "k"))


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with the word that follows it.

    Args:
        number: How many there are.
        one: The word for exactly one.
        many: The word for any other number; `one` with an s unless set.

    Example:
        >>> counted(1, "row"), counted(2000, "row"), counted(2, "turn has", "turns have")
        ('1 row', '2,000 rows', '2 turns have')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short_count(number: int) -> str:
    """Return a large number with a letter for thousands, millions or billions.

    Example:
        >>> short_count(134515008), short_count(3072), short_count(12)
        ('134.5M', '3.1k', '12')
    """
    for size, letter in _LETTERS:
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return str(number)


def loss_words(loss: float) -> str:
    """Return a loss with four decimals; a smaller one with three significant digits; nan and inf as words.

    Example:
        >>> loss_words(3.16457), loss_words(0.0), loss_words(0.0000412), loss_words(float("nan"))
        ('3.1646', '0.0000', '4.12e-05', 'nan')
    """
    if not math.isfinite(loss):
        return str(loss)
    return f"{loss:.2e}" if 0 < abs(loss) < _FOUR_DECIMALS else f"{loss:.4f}"


def share_words(share: float | None) -> str:
    """Return a share in percent, nothing where there is none.

    Example:
        >>> share_words(0.9167), share_words(None)
        ('91.7%', '')
    """
    return "" if share is None else f"{share:.1%}"


def byte_size(number: float) -> str:
    """Return a number of bytes, in kB (2**10 bytes), MB (2**20 bytes) or GB (2**30 bytes) where it is that large.

    Example:
        >>> byte_size(3 * 2**30), byte_size(5_500_000), byte_size(55_000), byte_size(5_500), byte_size(42)
        ('3.0 GB', '5 MB', '54 kB', '5.4 kB', '42 bytes')
    """
    if number < 2**10:
        return counted(round(number), "byte")
    if round(number / 2**10) < 2**10:
        return f"{number / 2**10:.{1 if number < 10 * 2**10 else 0}f} kB"
    return f"{number / 2**30:.1f} GB" if number >= 2**30 else f"{number / 2**20:.0f} MB"


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that it needs.

    Example:
        >>> duration(42), duration(190), duration(3900)
        ('42s', '3m10s', '1h05m')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def comparable(value: Any) -> float | None:
    """Return a value as a number that can be compared and written as JSON, or None.

    Example:
        >>> comparable(3), comparable(float("nan")), comparable(None)
        (3, None, None)
    """
    return value if isinstance(value, int | float) and math.isfinite(value) else None
