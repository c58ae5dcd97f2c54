from __future__ import annotations

import subprocess
import sys

import pytest
from tests.tiny_chat import tiny_llama, tiny_tokenizer

import instil
from instil.errors import GenerationError, ModelError


def test_a_wrong_setting_is_reported_before_torch_is_imported() -> None:
    script = (
        "import sys, instil\n"
        "try: instil.load_model('demo', load='3bit')\n"
        "except instil.GenerationError as error: print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("load: '3bit'. Expected none, 4bit or 8bit.")
    assert done.stdout.endswith("False\n")


def test_a_model_in_hand_answers_and_takes_no_settings_for_loading() -> None:
    model = tiny_llama(layers=1)
    assert instil.load_model(model, tiny_tokenizer()).module is model
    with pytest.raises(ModelError, match="loaded already"):
        instil.load_model(model, tiny_tokenizer(), revision="main")
    with pytest.raises(GenerationError, match="no such setting"):
        instil.load_model(model, tiny_tokenizer(), devise="cpu")
