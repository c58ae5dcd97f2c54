from __future__ import annotations

import shutil

import pytest
from tests.exporting.exported import ROWS
from tests.tiny_chat import folders

from instil.conversation import Conversation, Message
from instil.errors import ExportError
from instil.exporting.export import export
from instil.generation.engine import Engine


@pytest.mark.slow
def test_a_row_that_llama_cpp_cuts_otherwise_refuses_the_gguf(tmp_path):
    pytest.importorskip("gguf")
    from tokenizers import normalizers

    engine = Engine.load(folders()["tuned"])
    engine.tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    shutil.copytree(folders()["tuned"], tmp_path / "model")
    engine.tokenizer.save_pretrained(tmp_path / "model")
    rows = [Conversation((Message("user", "cafe\u0301"), Message("assistant", "yes")))]
    with pytest.raises(ExportError, match=r"llama\.cpp's rules differs from training"):
        export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32", rows=[*ROWS, *rows])
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    export(tmp_path / "model", tmp_path / "out", target="gguf", dtype="fp32", rows=ROWS)
