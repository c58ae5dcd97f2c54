from __future__ import annotations

import pytest

from instil.errors import EvaluationError
from instil.evaluation.schema import read_schema


def test_a_schema_is_read_from_its_file(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"type": "object", "title": "Größe"}', encoding="utf-8")
    assert read_schema(path) == {"type": "object", "title": "Größe"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}", None])
def test_a_file_that_is_no_json_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"schema\.json: cannot be read as JSON .* Check it\."):
        read_schema(path)


def test_a_folder_is_no_schema(tmp_path):
    with pytest.raises(EvaluationError, match="cannot be read as JSON"):
        read_schema(tmp_path)


def test_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot be read as JSON"):
        read_schema(path)
