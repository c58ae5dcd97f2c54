"""Log-probabilities and penalties against an independent computation; the bytes of tokens."""

from __future__ import annotations

import pytest
import torch
from tests.corpus import corpus_path, needs_corpus
from tests.generation.tiny import random_prompts, tiny_model

from instil.generation.logprobs import token_bytes
from instil.generation.sampling import generate_batch
from instil.generation.settings import SamplingSettings


def test_logprobs_equal_a_plain_forward_pass_whatever_changes_the_choice():
    model, prompts = tiny_model(), random_prompts(4)
    settings = SamplingSettings(
        temperature=1.3, top_p=0.9, seed=1, presence_penalty=0.7, repetition_penalty=1.2, max_new_tokens=9
    )
    answers = generate_batch(model, prompts, settings=settings, stop_ids=(2,), top_logprobs=2)
    assert sum(len(answer.token_ids) for answer in answers) > 8
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer.token_ids]])).logits[0].double()
        values = logits.log_softmax(-1)[len(prompt) - 1 :]
        assert [item.token_id for item in answer.logprobs] == list(answer.token_ids)
        for at, item in enumerate(answer.logprobs):
            assert item.logprob == pytest.approx(float(values[at, item.token_id]), abs=1e-5)
            assert [number for _, number in item.top] == pytest.approx(values[at].topk(2).values.tolist(), abs=1e-5)


@pytest.mark.parametrize(("presence", "frequency"), [(1.5, 0.0), (0.0, 0.8), (-1.0, 2.0)])
def test_penalties_are_those_of_openai(presence, frequency):
    model, prompts = tiny_model(), random_prompts(3)
    settings = SamplingSettings(presence_penalty=presence, frequency_penalty=frequency, max_new_tokens=12)
    answers = generate_batch(model, prompts, settings=settings, stop_ids=())
    plain = generate_batch(model, prompts, settings=SamplingSettings(max_new_tokens=12), stop_ids=())
    assert [answer.token_ids for answer in answers] != [answer.token_ids for answer in plain]
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = []
        for _ in range(12):
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *ids]])).logits[0, -1]
            for token in set(ids):
                logits[token] -= ids.count(token) * frequency + presence
            ids.append(int(logits.argmax()))
        assert ids == list(answer.token_ids)


@pytest.mark.slow
@needs_corpus()
@pytest.mark.parametrize("name", ["qwen2.5-instruct", "mistral-7b-instruct-v0.3"])
def test_the_bytes_of_tokens_add_up_to_the_text(name):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(corpus_path() / "tokenizers" / name)
    text = "Huế, 青 \U0001f980 naïve\n\tx"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(token_bytes(tokenizer, token) for token in ids).decode().lstrip(" ") == text
