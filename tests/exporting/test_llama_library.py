"""llama.cpp behind its one door: a package that cannot be loaded, a file that is none, a full disk."""

from __future__ import annotations

import sys

import pytest

from instil.errors import ExportError
from instil.exporting.llama_library import LlamaFile, quantise


def test_a_package_that_cannot_be_loaded_is_reported_with_what_to_do(tmp_path, monkeypatch):
    broken = tmp_path / "llama_cpp"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('Failed to load shared library libllama.so')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "llama_cpp"]:
        monkeypatch.delitem(sys.modules, name)
    for use in (lambda: LlamaFile(tmp_path / "model.gguf"), lambda: quantise(tmp_path, tmp_path / "out", "q8_0")):
        with pytest.raises(ExportError, match=r"libllama\.so.*--force-reinstall"):
            use()


def test_what_is_no_gguf_file_is_refused_with_llama_cpps_reason(tmp_path, capfd):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra quantise)")
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no such thing")
    with pytest.raises(ExportError, match=r"model\.gguf: llama\.cpp cannot read it \(.+\)"):
        LlamaFile(path)
    with pytest.raises(ExportError, match=r"llama\.cpp cannot write q8_0 \(.+\)\. .*Choose another dtype"):
        quantise(path, tmp_path / "out.gguf", "q8_0")
    assert capfd.readouterr().err == ""  # its own messages are in the error, not on the screen
