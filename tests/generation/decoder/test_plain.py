"""Plain steps: their logits are those of the model's own forward, and a model they do not fit is not answered by them."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.generation.tiny import random_prompts, steps_of, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from instil.generation.decoder import plain
from instil.generation.decoder.plain import PlainRows, places_of, plain_steps


def logits_of(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()


def bytes_of(model: torch.nn.Module) -> int:
    """Return the bytes of a model's parameters; a tensor that several of them are parts of counts once."""
    storages = [parameter.untyped_storage() for parameter in model.parameters()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def model_of(kind: str, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "pad_token_id": 0}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    config = AutoConfig.for_model(kind, **(shape | settings))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def llama_3(**settings) -> torch.nn.Module:
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    return model_of("llama", rope_parameters=rope, **settings)


WIDE = {"hidden_size": 128, "intermediate_size": 160}
MODELS = {
    "llama": lambda: tiny_model("llama"),
    "llama 3": llama_3,
    "tied": lambda: model_of("llama", tie_word_embeddings=True),
    "qwen2": lambda: model_of("qwen2"),
    "qwen3": lambda: tiny_model("qwen3"),
    "mistral": lambda: model_of("mistral", sliding_window=None),
    "one head for all": lambda: model_of("llama", num_key_value_heads=1),
    # Heads of 32 numbers, which compiled attention takes; those above have 8.
    "wide llama": lambda: model_of("llama", **WIDE),
    "wide qwen2": lambda: model_of("qwen2", **WIDE),
    "wide qwen3": lambda: model_of("qwen3", head_dim=32, **WIDE),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_logit_is_the_models_own_while_rows_come_and_go(kind):
    model = MODELS[kind]()
    steps = steps_of(model)
    texts = random_prompts(4)
    rows, places = PlainRows(steps), [0]

    def check(logits: torch.Tensor) -> None:
        assert len(logits) == len(places)
        for row, place in zip(logits, places, strict=True):
            expected = logits_of(model, texts[place])
            assert (row - expected).abs().max() <= 1e-5 * expected.abs().max()

    def step() -> None:
        tokens = [3 + (7 * len(texts[place]) + place) % 90 for place in places]
        for place, token in zip(places, tokens, strict=True):
            texts[place].append(token)
        check(rows.step(torch.tensor(tokens)))

    check(rows.add([texts[0]]))
    step()  # alone
    places += [1, 2, 3]
    check(torch.cat([logits_of(model, texts[0])[None], rows.add([texts[place] for place in (1, 2, 3)])]))
    step()  # together
    rows.keep([3, 1, 2])  # the last one fills the gap
    places[:] = [3, 1, 2]
    step()
    rows.keep([2, 0])  # each gets another slot
    places[:] = [2, 3]
    step()
    rows.keep([1])
    places[:] = [3]
    step()  # alone again


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 8, 12, 13, 32, 33])
@pytest.mark.parametrize(("width", "vocabulary"), [(128, 128), (96, 97)])
def test_as_many_rows_as_each_product_takes_have_the_models_own_logits(num_rows, width, vocabulary):
    model = model_of("llama", hidden_size=width, intermediate_size=width, vocab_size=vocabulary)
    texts = random_prompts(num_rows)
    rows = PlainRows(steps_of(model))
    rows.add(texts)
    for logits, text in zip(rows.step(torch.full((num_rows,), 7)), texts, strict=True):
        expected = logits_of(model, [*text, 7])
        assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_prompt_of_several_passes_and_more_columns_than_were_made(monkeypatch):
    monkeypatch.setattr(plain, "READ_TOKENS", 7)
    model = tiny_model("llama")
    rows = PlainRows(steps_of(model))
    long, short = [3 + (11 * at) % 90 for at in range(250)], [5, 6, 7]
    logits = rows.add([long, short])
    assert torch.allclose(logits[0], logits_of(model, long), atol=1e-4)
    assert torch.allclose(logits[1], logits_of(model, short), atol=1e-4)
    for token in range(10, 16):  # to the 256th column
        long, short = [*long, token], [*short, token + 1]
        logits = rows.step(torch.tensor([token, token + 1]))
    assert torch.allclose(logits[0], logits_of(model, long), atol=1e-4)
    assert torch.allclose(logits[1], logits_of(model, short), atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "wide llama", "wide qwen3"])
def test_in_bf16_the_steps_round_no_worse_than_the_models_own_forward(kind):
    exact, model = MODELS[kind](), copy.deepcopy(MODELS[kind]()).bfloat16()
    steps = steps_of(model)
    errors: dict[str, list[float]] = {"steps": [], "forward": []}
    for prompt in random_prompts(8):
        rows = PlainRows(steps)
        rows.add([prompt, prompt[:1]])
        found = {"steps": rows.step(torch.tensor([7, 7]))[0], "forward": logits_of(model, [*prompt, 7])}
        for side, logits in found.items():
            errors[side].append(float((logits - logits_of(exact, [*prompt, 7])).abs().max()))
    assert sum(errors["steps"]) < 1.25 * sum(errors["forward"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: tiny_model("gpt2"), "GPT2LMHeadModel is not among"),
        (lambda: tiny_model("mistral"), "window"),
        (lambda: model_of("qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=1), "window"),
        (lambda: model_of("llama", mlp_bias=True), "bias"),
        (lambda: model_of("llama", attention_bias=True), "bias"),
        (lambda: model_of("llama", hidden_act="gelu"), "gelu"),
        (lambda: model_of("llama").half(), "float16"),
        (
            lambda: model_of("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rotary",
        ),
    ],
)
def test_a_model_of_other_layers_is_named_with_the_reason(make, why):
    reason = plain_steps(make())
    assert isinstance(reason, str)
    assert why in reason


def test_a_model_whose_forward_is_another_is_refused_by_the_proof():
    model = model_of("llama")
    layer = model.model.layers[1].mlp
    layer.forward = lambda x: 1.01 * type(layer).forward(layer, x)
    reason = plain_steps(model)
    assert isinstance(reason, str)
    assert "differ from the model's own" in reason


def test_laying_out_keeps_every_parameter_and_training_is_seen():
    model = model_of("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bytes_before = bytes_of(model)
    steps = steps_of(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert bytes_before == bytes_of(model)
    places = places_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    assert places_of(model) == places
    expected = logits_of(model, [5, 6, 7])
    assert torch.allclose(PlainRows(steps).add([[5, 6, 7]])[0], expected, atol=1e-5)
    model.resize_token_embeddings(120)
    assert places_of(model) != places
