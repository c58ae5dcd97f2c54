"""The batch of rows behind every answer: what its cache, its padding and its limits do to the logits."""

from __future__ import annotations

import pytest
import torch
from tests.generation.tiny import VOCABULARY, random_prompts, tiny_model

from instil.errors import GenerationError
from instil.generation.decoding import MAX_ROWS, Decoder, answering, context_limit, memory_of, rows_at_once
from instil.model.attention.flat import ATTENTION_NAME
from instil.model.attention.switch import set_attention


def logits_of(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_padding_and_cache_change_no_logit_and_kept_rows_stay_themselves(kind):
    model, prompts = tiny_model(kind), random_prompts(4)
    assert len({len(prompt) for prompt in prompts}) > 1
    with torch.no_grad(), answering(model):
        decoder = Decoder(model, pad_id=0)
        first = decoder.add(prompts)
        for row, prompt in enumerate(prompts):
            assert torch.allclose(first[row], logits_of(model, prompt), atol=1e-4)
        second = decoder.step(torch.tensor([5, 6, 7, 8]))
        decoder.keep([3, 1])
        third = decoder.step(torch.tensor([9, 10]))
        assert torch.allclose(second[2], logits_of(model, [*prompts[2], 7]), atol=1e-4)
        assert torch.allclose(third[0], logits_of(model, [*prompts[3], 8, 9]), atol=1e-4)
        assert torch.allclose(third[1], logits_of(model, [*prompts[1], 6, 10]), atol=1e-4)
    assert first.shape == (4, VOCABULARY)


@pytest.mark.parametrize(("kind", "memory"), [("llama", "past_key_values"), ("mamba2", "cache_params"), ("rwkv", None)])
def test_a_model_without_the_common_cache_answers_alone(kind, memory):
    model = tiny_model(kind)
    assert memory_of(model) == memory
    assert rows_at_once(model, 20) == (1 if memory is None else MAX_ROWS)


def test_training_mode_and_attention_come_back_after_an_error():
    model = tiny_model(seed=1)
    set_attention(model, "training")
    model.train()
    inside: list[object] = []

    def fail() -> None:
        inside.extend([model.training, model.config._attn_implementation])
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), answering(model):
        fail()
    assert inside[0] is False
    assert inside[1] != ATTENTION_NAME
    assert model.training
    assert model.config._attn_implementation == ATTENTION_NAME
    model.eval()


def test_out_of_memory_names_what_helps():
    model = tiny_model()
    with pytest.raises(GenerationError, match=r"ran out of memory .*Lower max_new_tokens"), answering(model):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    assert context_limit(model) == 256
