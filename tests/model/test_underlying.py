from __future__ import annotations

import pytest
from tests.model.tiny import tiny_model

from instil.model.underlying import underlying


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft reads it
def test_a_wrapper_is_taken_off_and_a_bare_model_stays() -> None:
    from peft import LoraConfig, get_peft_model

    bare = tiny_model("llama")
    assert underlying(bare) is bare
    assert underlying(get_peft_model(bare, LoraConfig(target_modules=["q_proj"]))) is bare
