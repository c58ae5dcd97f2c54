from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.sources.raw_rows import check_refusal


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.jsonl", b'{"a": 1e999}\n', ":1: the number 1e999 is too large for a float"),
        ("a.json", b'[{"a": 1e999}]', "[0]: the number 1e999 is too large for a float"),
        ("a.jsonl", b'{"a": 1, "b": 2, "a": 3}\n', ":1: the key 'a' occurs twice"),
        ("a.jsonl", b'{"a": NaN}\n', ":1: found NaN"),
        ("a.jsonl", b'{"a": -Infinity}\n', ":1: found -Infinity"),
        ("a.jsonl", b'{"a": "\\ud83d"}\n', ":1: holds half a surrogate pair"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ":1: nested too deeply"),
        ("a.jsonl", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}\n", ":1: nested too deeply. Expected at most 200 levels"),
        (
            "a.json",
            b'[{"a": ' + b"[" * 900 + b"]" * 900 + b"}]\n",
            "[0]: nested too deeply. Expected at most 200 levels",
        ),
        ("a.json", b'[{"a": 1}, {"a": 1, "a": 2}]', "[1]: the key 'a' occurs twice"),
    ],
)
def test_faults_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    check_refusal(tmp_path / name, data, error)
