"""Schema files."""

from __future__ import annotations

import pytest

from instil.errors import GenerationError
from instil.generation.constraints.schema_file import read_form


def test_a_schema_is_read_and_refused_with_its_file(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"type": "integer"}')
    assert read_form(path).schema == {"type": "integer"}
    assert read_form(None) is None
    assert read_form(None, any_object=True).schema == {"type": "object"}
    with pytest.raises(GenerationError, match="json=True: found beside schema"):
        read_form(path, any_object=True)
    path.write_text("{")
    with pytest.raises(GenerationError, match=r"schema\.json: it is no JSON"):
        read_form(path)
    path.write_text('{"tpye": "integer"}')
    with pytest.raises(GenerationError, match=r"schema.json.tpye: unknown keyword \(did you mean 'type'"):
        read_form(path)
    with pytest.raises(GenerationError, match=r"none\.json: No such file"):
        read_form(tmp_path / "none.json")
