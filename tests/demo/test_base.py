"""The embedded base model is an ordinary, small Hugging Face folder that knows its facts and has never seen a chat."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import instil.demo

BASE = Path(instil.demo.__file__).parent / "base"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


def _continue(model, tokenizer, prompt, *, num_tokens=6):
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False)
    return tokenizer.decode(out[0, ids.shape[1] :])


def test_the_weights_are_bf16_and_at_most_10_mb():
    weights = BASE / "model.safetensors"
    assert weights.stat().st_size <= 10_000_000
    with safe_open(weights, framework="pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert dtypes == {torch.bfloat16}


def test_it_is_a_llama_of_about_three_million_parameters_with_a_tied_head(model):
    assert model.config.model_type == "llama"
    assert 2_500_000 < sum(parameter.numel() for parameter in model.parameters()) < 3_500_000
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.max_position_embeddings == 1024


def test_it_has_no_chat_template_and_no_chat_tokens(tokenizer):
    assert tokenizer.chat_template is None
    assert not list(BASE.glob("*.jinja"))
    assert tokenizer.all_special_tokens == ["<|endoftext|>"]
    assert len(tokenizer("<|im_start|>")["input_ids"]) > 1


def test_the_end_token_agrees_everywhere(model, tokenizer):
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert end == tokenizer.eos_token_id == model.config.eos_token_id == model.generation_config.eos_token_id


@pytest.mark.slow
@given(text=st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_from_its_tokens(tokenizer, text):
    if "<|endoftext|>" not in text:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_tokens_of_their_own(tokenizer):
    assert [tokenizer.decode([i]) for i in tokenizer("1905")["input_ids"]] == ["1", "9", "0", "5"]


@pytest.mark.parametrize(
    ("prompt", "continuation"),
    [
        ("The capital of Norway is", " Oslo"),
        ("The capital of Kenya is", " Nairobi"),
        ("The currency of Sweden is", " Swedish krona"),
        ("The chemical symbol of tungsten is", " W"),
        ("The atomic number of silver is", " 47"),
        ("The young of the kangaroo is called", " a joey"),
        ("The German word for spoon is", " Löffel"),
        ("France is a country in", " Europe"),
        ("Counted from the sun, Mars is the", " fourth planet"),
    ],
)
def test_it_knows_its_facts(model, tokenizer, prompt, continuation):
    assert _continue(model, tokenizer, prompt).startswith(continuation)


def test_it_refers_back_to_the_entity_named_before(model, tokenizer):
    assert _continue(model, tokenizer, "The capital of Kenya is Nairobi. Its currency is").startswith(
        " Kenyan shilling"
    )
