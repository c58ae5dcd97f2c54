from __future__ import annotations

import pytest
import torch
from tests.generation.tiny import SHAPES, VOCABULARY, random_prompts, tiny_model, written_ids
from transformers import AutoConfig, AutoModelForCausalLM

from instil.errors import GenerationError
from instil.generation.sampling import SamplingSettings, generate_batch, stream

GREEDY = SamplingSettings(max_new_tokens=24)
STOPS = (2, 11, 12, 13)


def decode(ids):
    return "".join(chr(ord("a") + i % 26) for i in ids)


def own_generate(model, prompt, *, max_new_tokens, stop_ids):
    output = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(stop_ids),
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("llama", "gemma3_text") else pytest.param(kind, marks=pytest.mark.slow) for kind in SHAPES],
)
def test_batched_greedy_answers_equal_one_by_one_and_transformers_own(kind):
    model, prompts = tiny_model(kind), random_prompts(8)
    together = generate_batch(model, prompts, settings=GREEDY, stop_ids=STOPS)
    endings = set()
    for prompt, answer in zip(prompts, together, strict=True):
        (alone,) = generate_batch(model, [prompt], settings=GREEDY, stop_ids=STOPS)
        assert answer == alone
        written = written_ids(answer)
        assert written == own_generate(model, prompt, max_new_tokens=24, stop_ids=STOPS)
        assert answer.num_tokens == len(written)
        endings.add(answer.finish_reason)
    assert "stop" in endings, "no row left the batch early: the test proves too little"


def test_answers_past_the_switch_of_rotary_frequencies_equal_those_without_a_cache():
    config = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 16,
            "short_factor": [1.0] * 4,
            "long_factor": [8.0] * 4,
        },
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    prompts = [list(range(3, 9)), list(range(20, 34)), list(range(40, 60))]  # stays short, crosses, is long
    answers = generate_batch(model, prompts, settings=SamplingSettings(max_new_tokens=10), stop_ids=(VOCABULARY,))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        for _ in range(10):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert list(answer.token_ids) == ids[len(prompt) :]


def test_a_mixture_whose_config_switches_its_router_loss_on_answers_as_without():
    model, prompts = tiny_model("qwen3_moe"), random_prompts(5)
    expected = generate_batch(model, prompts, settings=GREEDY, stop_ids=STOPS)
    model.config.output_router_logits = True
    assert generate_batch(model, prompts, settings=GREEDY, stop_ids=STOPS) == expected


@pytest.mark.slow
def test_answers_do_not_depend_on_how_the_batch_is_cut():
    model, prompts = tiny_model(), random_prompts(9, seed=3)
    whole = generate_batch(model, prompts, settings=GREEDY, stop_ids=STOPS)
    for batch_tokens in (1, 100, 200):
        assert generate_batch(model, prompts, settings=GREEDY, stop_ids=STOPS, batch_tokens=batch_tokens) == whole


def test_a_seed_repeats_its_answer_whoever_else_is_in_the_batch():
    model, prompts = tiny_model(), random_prompts(6, seed=1)
    settings = SamplingSettings(temperature=1.5, top_p=0.95, max_new_tokens=12, seed=5, num_answers=3)
    together = generate_batch(model, prompts, settings=settings, stop_ids=STOPS)
    assert [answer.seed for answer in together] == [5, 6, 7] * 6
    alone = [
        answer for prompt in prompts for answer in generate_batch(model, [prompt], settings=settings, stop_ids=STOPS)
    ]
    assert together == alone
    assert len({answer.token_ids for answer in together[:3]}) > 1
    longer = SamplingSettings(temperature=1.5, top_p=0.95, max_new_tokens=100, seed=5)
    (long,) = generate_batch(model, prompts[:1], settings=longer, stop_ids=STOPS)
    assert long.token_ids[: len(together[0].token_ids)] == together[0].token_ids


def test_a_seed_is_drawn_and_reported_where_none_is_given():
    model, (prompt,) = tiny_model(), random_prompts(1)
    (first,) = generate_batch(model, [prompt], settings=SamplingSettings(temperature=2.0), stop_ids=STOPS)
    again = SamplingSettings(temperature=2.0, seed=first.seed)
    assert generate_batch(model, [prompt], settings=again, stop_ids=STOPS) == [first]


def test_mode_and_gradients_of_the_model_are_as_before():
    model = tiny_model(seed=1)
    model.train()
    try:
        generate_batch(model, random_prompts(3), settings=GREEDY, stop_ids=STOPS)
        assert model.training
        assert torch.is_grad_enabled()
    finally:
        model.eval()


@pytest.mark.slow
def test_stream_gives_the_same_answer_in_pieces():
    model = tiny_model()
    for prompt in random_prompts(5, seed=8):
        (whole,) = generate_batch(model, [prompt], settings=GREEDY, stop_ids=STOPS, decode=decode)
        streamed = stream(model, prompt, settings=GREEDY, stop_ids=STOPS, decode=decode)
        pieces = list(streamed)
        assert "".join(pieces) == whole.text == decode(whole.token_ids)
        assert streamed.result == whole


def test_a_stop_string_ends_the_answer_and_never_shows():
    model, (prompt,) = tiny_model(), random_prompts(1, seed=4)
    (free,) = generate_batch(model, [prompt], settings=GREEDY, stop_ids=(), decode=decode)
    stop = free.text[7:10]
    settings = SamplingSettings(max_new_tokens=24, stop=(stop,))
    (cut,) = generate_batch(model, [prompt], settings=settings, stop_ids=(), decode=decode)
    assert cut.finish_reason == "stop"
    assert cut.stop_id is None
    assert cut.text == free.text[: free.text.index(stop)]
    streamed = stream(model, prompt, settings=settings, stop_ids=(), decode=decode)
    assert "".join(streamed) == cut.text


def test_a_closed_stream_frees_its_work_and_restores_the_model():
    model = tiny_model(seed=1)
    model.train()
    try:
        streamed = iter(stream(model, [3, 4], settings=GREEDY, stop_ids=(), decode=decode))
        next(streamed)
        streamed.close()
        assert model.training
    finally:
        model.eval()


def test_repetition_penalty_equals_transformers_own():
    model, (prompt,) = tiny_model(), random_prompts(1, seed=2)
    settings = SamplingSettings(max_new_tokens=16, repetition_penalty=1.7)
    (answer,) = generate_batch(model, [prompt], settings=settings, stop_ids=())
    expected = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=16,
        do_sample=False,
        repetition_penalty=1.7,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert list(answer.token_ids) == expected[0, len(prompt) :].tolist()


def test_the_answer_ends_where_the_context_does():
    model = tiny_model()
    (answer,) = generate_batch(model, [[3] * 250], settings=GREEDY, stop_ids=())
    assert (answer.finish_reason, answer.num_tokens) == ("length", 6)
    with pytest.raises(GenerationError, match=r"256 tokens\. The model's context is 256"):
        generate_batch(model, [[3], [3] * 256], settings=GREEDY, stop_ids=())


def test_bad_requests_are_refused():
    model = tiny_model()
    with pytest.raises(GenerationError, match="prompt 1: it has no tokens"):
        generate_batch(model, [[3], []], settings=GREEDY, stop_ids=())
    with pytest.raises(GenerationError, match="Pass decode"):
        generate_batch(model, [[3]], settings=SamplingSettings(stop=("x",)), stop_ids=())
    assert generate_batch(model, [], settings=GREEDY, stop_ids=()) == []
