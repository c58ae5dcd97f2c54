"""What weight decay and Muon move, over every architecture of docs/how-it-works/architectures.md."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from tests.model.tiny import tiny_model
from tests.training.architectures import EVERY, IMAGES
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from instil.model.adapters.lora import prepare_adapters
from instil.recipe import AdapterSettings
from instil.training.step.optimizer import build_optimizers
from instil.training.step.tensor_kinds import tensor_kinds

ODD = ("gpt_oss", "mamba", "jamba", "recurrent_gemma", "rwkv", "kimi_linear", "opt", "gemma3n_text", "deepseek_v3")
"""One of each way in which a tensor's shape says the wrong thing, and ordinary ones beside them."""
MATRICES = {
    *("weight", "in_proj_weight", "mm_input_projection_weight", "input_gate_weight", "recurrent_gate_weight"),
    *("up_proj", "down_proj", "gate_up_proj", "w1", "w2", "v1", "fn", "hc_fn"),
}
"""Last names of everything that multiplies, apart from the weights of norms."""
VECTORS = {
    *("weight", "bias", "in_proj_bias", "gate_up_proj_bias", "down_proj_bias", "dense_bias", "dt_bias", "gate_bias"),
    *("position_bias", "input_gate_bias", "recurrent_gate_bias", "hidden_states_bias", "input_hidden_states_bias"),
    *("residual_bias", "A", "A_log", "D", "sinks", "class_embedding", "probe", "recurrent_param", "base", "hc_base"),
    *("time_decay", "time_first", "time_mix_key", "time_mix_value", "time_mix_receptance", "temp"),
    *("scale", "hc_scale", "correct_output_scale", "router_states_scale", "hidden_states_scale", "residual_scale"),
    *("input_hidden_states_scale", "input_residual", "post_attention_residual"),
    *("lambda_q1", "lambda_q2", "lambda_k1", "lambda_k2", "alpha_n", "alpha_p"),
}
"""Last names of everything that adds or scales; `weight` is a norm's."""
POSITIONS = {"position_embedding_table", "positional_embedding_vlm"}
"""Last names of position tables that are no embedding module."""


def empty_model(name: str, **changes: Any) -> nn.Module:
    config = AutoConfig.for_model(name, **(EVERY | IMAGES)[name] | changes)
    kind = AutoModelForImageTextToText if name in IMAGES else AutoModelForCausalLM
    with torch.device("meta"):
        model: nn.Module = kind.from_config(config)
    return model


def assert_known_by_what_they_do(name: str) -> None:
    model = empty_model(name)
    modules, last_names = dict(model.named_modules()), defaultdict(set)
    kinds = tensor_kinds(model)
    assert kinds
    for parameter, kind in kinds.items():
        owner, _, last = parameter.rpartition(".")
        what = type(modules[owner]).__name__
        last_names[kind].add(last)
        if last == "weight" and not isinstance(modules[owner], nn.Embedding):
            assert (kind == "vector") == ("Norm" in what), (name, parameter, what, kind)
    assert last_names["matrix"] <= MATRICES, (name, last_names["matrix"] - MATRICES)
    assert last_names["vector"] <= VECTORS, (name, last_names["vector"] - VECTORS)
    assert last_names["head"] <= {"weight"}, name
    assert last_names["embedding"] <= {"weight"} | POSITIONS, (name, last_names["embedding"])


@pytest.mark.parametrize("name", ODD)
def test_tensors_are_known_by_what_they_do(name: str):
    assert_known_by_what_they_do(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", sorted((EVERY.keys() | IMAGES.keys()) - set(ODD)))
def test_tensors_of_every_architecture_are_known_by_what_they_do(name: str):
    assert_known_by_what_they_do(name)


def test_decay_leaves_the_biases_of_stacked_experts_alone():
    model = tiny_model("gpt_oss")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    (optimizer,) = build_optimizers(dict(model.named_parameters()), tensor_kinds(model), lr=0.1, weight_decay=0.5)
    for value in model.parameters():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    moved = {
        name.rpartition(".")[2] for name, value in model.named_parameters() if not torch.equal(value, before[name])
    }
    still = {name.rpartition(".")[2] for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert moved == {"weight", "gate_up_proj", "down_proj"}
    assert still == {"weight", "bias", "gate_up_proj_bias", "down_proj_bias", "sinks"}


def test_muon_moves_no_rates_and_no_expert_biases():
    for name, last in (("mamba", "A_log"), ("gpt_oss", "gate_up_proj_bias"), ("recurrent_gemma", "input_gate_bias")):
        model = empty_model(name)
        weights = dict(model.named_parameters())
        muon, adamw = build_optimizers(weights, tensor_kinds(model), name="muon", lr=0.1)
        named = {id(value) for key, value in weights.items() if key.endswith(last)}
        assert named
        assert named <= {id(value) for group in adamw.param_groups for value in group["params"]}
        assert not named & {id(value) for group in muon.param_groups for value in group["params"]}


def test_a_norm_of_two_dimensions_is_a_vector():
    kinds = tensor_kinds(empty_model("cohere", use_qk_norm=True))
    norms = {name: kind for name, kind in kinds.items() if "q_norm" in name or "k_norm" in name}
    assert len(norms) == 4
    assert set(norms.values()) == {"vector"}


def test_magnitudes_of_dora_are_vectors_and_its_matrices_are_matrices():
    settings = AdapterSettings(kind="lora", rank=2, dora=True, targets=["q_proj", "embed_tokens"])
    kinds = tensor_kinds(prepare_adapters(tiny_model("llama"), settings))
    magnitudes = {kind for name, kind in kinds.items() if "magnitude" in name}
    assert magnitudes == {"vector"}
    assert {kind for name, kind in kinds.items() if "magnitude" not in name} == {"matrix"}
