from __future__ import annotations

import doctest
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_of_what_is_trained_run() -> None:
    result = doctest.testfile(str(DOCS / "how-it-works" / "what-is-trained.md"), module_relative=False)
    assert result.attempted >= 12
    assert result.failed == 0
