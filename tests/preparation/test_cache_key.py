"""Claims about the key of a store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.preparation.encoder_of_bytes import EncoderOfBytes
from tests.preparation.prepared_data import rows, run, save

from instil.preparation.prepare import prepare
from instil.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


def test_a_template_that_prints_the_day_keys_the_store_by_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(20))

    def folder(prints_day: bool, **data: Any) -> Path:
        encoder = EncoderOfBytes()
        encoder.template = SimpleNamespace(prints_day=prints_day)
        recipe = Recipe.from_mapping({"data": {"sources": path, "store": str(tmp_path / "store"), **data}})
        return prepare(recipe, encoder).folder  # type: ignore[arg-type]

    assert folder(False) != folder(True)
    assert folder(False, date="2026-01-01") == folder(True, date="2026-01-01")


@pytest.mark.slow
def test_the_fingerprint_is_stable_across_processes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", rows(20))
    code = (
        "import sys\nfrom instil.preparation.prepare import prepare\nfrom instil.recipe import Recipe\n"
        "from tests.preparation.encoder_of_bytes import EncoderOfBytes\n"
        "recipe = Recipe.from_mapping({'data': {'sources': sys.argv[1], 'store': sys.argv[2]}})\n"
        "print(prepare(recipe, EncoderOfBytes()).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, path, str(tmp_path / "elsewhere")]
    other = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True
    ).stdout.strip()
    assert other == run(tmp_path, sources=path).fingerprint
