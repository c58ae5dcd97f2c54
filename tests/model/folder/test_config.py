from __future__ import annotations

from pathlib import Path

import pytest
from tests.model.saved_models import assert_refused_in_one_line, broken

from instil.errors import ModelError
from instil.model.folder.config import load_config, reason_of
from instil.model.folder.location import locate


def test_config_of_the_embedded_base_is_known() -> None:
    try:
        location = locate("demo")
    except ModelError:
        pytest.skip("the embedded base model is not built in this checkout: 1 case left out")
    assert load_config(location).model_type == "llama"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("config no JSON", "cannot be read as JSON"),
        ("unknown architecture", "transformers cannot use it"),
        ("own code", "trust_remote_code: true if you trust it"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_in_one_line(fault: str, says: str, tmp_path: Path) -> None:
    assert_refused_in_one_line(broken(tmp_path, fault), says)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("Field 'x':\n    TypeError: no\nmore"), "Field 'x': TypeError: no"),
        (KeyError("key"), "KeyError 'key'"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_of_transformers_becomes_one_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
