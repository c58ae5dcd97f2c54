"""Claims about reading the rows of a source."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from tests.preparation.prepared_data import rows, run


def test_standard_input_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = "".join(json.dumps(row) + "\n" for row in rows(30)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    prepared = run(tmp_path, sources={"path": "-", "rows": 20}, heldout_share=0)
    assert len(prepared.train) == 20
    assert str(prepared.train[0].place).startswith("<stdin>:")
