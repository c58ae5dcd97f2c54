from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.adapted_models import LORA, adapted, examples_with_new_tokens, logits_of, train

from instil.model.adapters.merge import merge_in_place


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"rank_stabilized": True}, {"dora": True}, {"targets": ["q_proj", "down_proj"]}]
)
def test_merging_changes_nothing(tied: bool, changes: dict[str, Any]) -> None:
    model, _ = adapted(tied=tied, settings=LORA.model_copy(update=changes))
    train(model)
    ids = examples_with_new_tokens()[0][0]
    expected = logits_of(model, ids)
    merged = merge_in_place(model)
    assert not hasattr(merged, "peft_config")
    assert torch.allclose(logits_of(merged, ids), expected, atol=1e-4)
