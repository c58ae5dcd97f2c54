from __future__ import annotations

import re

import pytest
from tests.model.tiny import tiny_model

from instil.errors import ModelError
from instil.model.freezing import freeze


def test_freezing_by_pattern() -> None:
    model = tiny_model("llama")
    assert freeze(model, ["embed_tokens.*", "model.layers.0.*"]) == 10
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert "model.embed_tokens.weight" in frozen
    assert "model.layers.1.mlp.up_proj.weight" not in frozen
    with pytest.raises(ModelError, match="matches no parameter"):
        freeze(model, ["layer.0"])
    with pytest.raises(ModelError, match="nothing is left"):
        freeze(model, ["*"])


def test_freezing_a_tied_head_names_the_embedding_that_it_is() -> None:
    model = tiny_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    said = "'lm_head.*' names lm_head.weight, which is model.embed_tokens.weight by another name"
    with pytest.raises(ModelError, match=re.escape(said)):
        freeze(model, ["lm_head.*"])
    assert freeze(model, ["embed_tokens.*"]) == 1
