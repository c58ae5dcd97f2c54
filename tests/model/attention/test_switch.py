from __future__ import annotations

import pytest
from tests.model.tiny import tiny_model

from instil.model.attention.switch import set_attention


@pytest.mark.parametrize(("name", "expected"), [("llama", "sdpa"), ("gemma2", "eager"), ("gpt_oss", "eager")])
def test_generation_gets_an_attention_that_knows_caps_and_sinks(name: str, expected: str) -> None:
    model = tiny_model(name)
    set_attention(model, "generation")
    assert model.config._attn_implementation == expected
