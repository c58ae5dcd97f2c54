"""List the tests that took longest in the last run: ``make slow``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

RESULTS = Path("build/tests.xml")
NUM_SHOWN = 30


def slowest(results: Path, count: int = NUM_SHOWN) -> list[tuple[float, str]]:
    """Return the seconds and names of the longest tests, longest first.

    Args:
        results: JUnit file that pytest wrote.
        count: How many to return.
    """
    cases = ElementTree.parse(results).iter("testcase")
    took = [(float(case.get("time", 0)), f"{case.get('classname')}::{case.get('name')}") for case in cases]
    return sorted(took, reverse=True)[:count]


def main(arguments: Sequence[str]) -> int:
    """Print them; return the exit status."""
    results = Path(arguments[0]) if arguments else RESULTS
    if not results.exists():
        print(f"{results}: no such file. Expected the results of a run. Run: make test", file=sys.stderr)
        return 2
    for seconds, name in slowest(results):
        print(f"{seconds:7.1f} s  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
