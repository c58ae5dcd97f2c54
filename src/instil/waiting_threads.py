"""How OpenMP threads wait for each other: asleep, not in a loop that takes the cores of other programs.

Set when instil is imported, because an OpenMP library reads its environment once, when torch loads it. Processes that
this one starts inherit it.

Why: threads that wait in a loop keep the cores from the threads that they wait for, as soon as the machine has more
to do than it has cores. `benchmarks/busy.py` measures it. A thread that shares its core still delays the others at the
end of each operation: two cores beside one busy process keep 53 to 65% of their speed in fp32, and no other way of waiting
or of cutting the work kept more (notes of 2026-11-30).
"""

from __future__ import annotations

from collections.abc import MutableMapping

CHOICES_OF_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that decide how threads wait: of OpenMP, GNU's library and Intel's. One that is set is left alone."""


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Have waiting OpenMP threads sleep, unless the user has decided how they wait.

    Args:
        environment: The environment to change, `os.environ`. It has no effect on a process that has loaded torch.

    Example:
        >>> environment = {}
        >>> let_threads_sleep(environment)
        >>> environment
        {'OMP_WAIT_POLICY': 'PASSIVE'}
    """
    if not any(name in environment for name in CHOICES_OF_THE_USER):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
