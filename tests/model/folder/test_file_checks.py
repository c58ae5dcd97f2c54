from __future__ import annotations

from pathlib import Path

import pytest
from tests.model.saved_models import assert_refused_in_one_line, broken

from instil.encoding.loading import load_tokenizer
from instil.errors import ModelError
from instil.model.folder.file_checks import check_tokenizer, check_weights
from instil.model.folder.location import locate


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "no tokenizer")
    check_weights(folder)
    with pytest.raises(ModelError, match="without a tokenizer"):
        load_tokenizer(locate(folder).tokenizer_folder)
    with pytest.raises(ModelError, match="without a tokenizer"):
        check_tokenizer(folder)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("cut short", "cut short"),
        ("header gone", "no safetensors file"),
        ("no weights", "without weights.*initialise: random"),
        ("pickled", "pickled and could run code"),
    ],
)
def test_weights_that_are_not_complete_are_refused_in_one_line(fault: str, says: str, tmp_path: Path) -> None:
    assert_refused_in_one_line(broken(tmp_path, fault), says)
