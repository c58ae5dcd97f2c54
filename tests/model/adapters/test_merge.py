from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.adapted_models import LORA, adapted, examples_with_new_tokens, logits_of, train
from tests.training.architectures import EVERY, IMAGES
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.merge import merge_in_place
from instil.recipe import AdapterSettings

TIED = ("llama", "gpt2", "mamba", "gemma3")
"""One of each name of embedding and head, and one that reads images."""
NEVER_TIED = {"bailing_hybrid", "dbrx", "kimi_linear", "nemotron_h", "xlstm"}
LARGE = {"mellum", "zaya", "deepseek_v4"}
"""Architectures whose smallest model takes seconds to write."""


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


def tied_model(name: str) -> Any:
    settings = dict((EVERY | IMAGES)[name]) | {"tie_word_embeddings": True}
    if "text_config" in settings:
        settings["text_config"] = settings["text_config"] | {"tie_word_embeddings": True}
    torch.manual_seed(0)
    kind = AutoModelForImageTextToText if name in IMAGES else AutoModelForCausalLM
    return kind.from_config(AutoConfig.for_model(name, **settings), dtype=torch.float32).eval()


def uncached_logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits without a cache, which models without attention layers refuse."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids[None], use_cache=False).logits[0]
    return logits


def assert_merged_whole(name: str, folder: Path, *uses: str) -> None:
    """Merge adapters on uses of a tied weight, write the model, and compare what transformers loads."""
    ids = torch.randint(3, 90, (9,), generator=torch.Generator().manual_seed(0))
    model = tied_model(name)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert head.weight is embedding.weight
    names = {module: path.rpartition(".")[2] for path, module in model.named_modules()}
    targets = [names[embedding if use == "embedding" else head] for use in uses]
    adapted = prepare_adapters(model, AdapterSettings(kind="lora", rank=4, targets=targets)).eval()
    with torch.no_grad():
        for path, value in adapted.named_parameters():
            if "lora_" in path:
                value.normal_(std=0.3)
    expected = uncached_logits(adapted, ids)
    merge_in_place(adapted).save_pretrained(folder)
    again = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    assert again.get_output_embeddings().weight is not again.get_input_embeddings().weight
    assert (uncached_logits(again, ids) - expected).abs().max() <= 1e-5 * expected.abs().max(), uses


@pytest.mark.slow
@pytest.mark.parametrize("name", TIED)
def test_an_adapter_on_one_use_of_a_tied_weight_is_merged_into_that_use(name: str, tmp_path: Path) -> None:
    assert_merged_whole(name, tmp_path / "embedding", "embedding")
    assert_merged_whole(name, tmp_path / "head", "head")
    assert_merged_whole(name, tmp_path / "both", "embedding", "head")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", sorted((EVERY.keys() | IMAGES.keys()) - NEVER_TIED - LARGE - set(TIED)))
def test_every_architecture_that_ties_is_merged_whole(name: str, tmp_path: Path) -> None:
    """Two adapters at once, each on its use: one that goes to the other use, or to both, changes the logits."""
    assert_merged_whole(name, tmp_path, "embedding", "head")
