"""Finds the corpus of public templates, tokenizers and data sets that many tests are held against."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def corpus_path() -> Path | None:
    """Give the corpus folder (INSTIL_CORPUS, else ../shared/corpus beside the checkout), or None where there is none."""
    given = os.environ.get("INSTIL_CORPUS")
    folder = Path(given) if given else ROOT.parent / "shared" / "corpus"
    return folder if (folder / "templates" / "index.json").exists() else None


def needs_corpus(num_cases: int = 1) -> pytest.MarkDecorator:
    """Mark tests that need the corpus; the skip says how many cases are left out."""
    return pytest.mark.skipif(corpus_path() is None, reason=f"the corpus is absent: {num_cases} case(s) left out")
