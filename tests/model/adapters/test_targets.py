from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.adapted_models import LORA
from tests.model.flat_batches import loss_of
from tests.model.tiny import random_examples, tiny_model

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.adapters.saved import open_adapter
from instil.model.adapters.targets import find_targets, left_out
from instil.model.folder.saving import save_adapter
from instil.model.loss.token_loss import TokenLoss
from instil.recipe import AdapterSettings

EXPERTS = ["q_proj", "experts.gate_up_proj", "experts.down_proj"]


def adapted(name: str, targets: str | list[str] = "all-linear", **settings: Any) -> Any:
    return prepare_adapters(tiny_model(name), AdapterSettings(kind="lora", rank=2, targets=targets, **settings))


def moved(model: Any) -> set[str]:
    """Give the weights that two steps move once the adapter is merged, without numbers of layers."""
    before = {name: value.clone() for name, value in tiny_model(model.config.model_type).named_parameters()}
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    module = TokenLoss(model)
    for _ in range(2):
        loss_of(module, random_examples([9, 6])).backward()
        assert all(value.grad is not None for value in trained)
        optimizer.step()
        optimizer.zero_grad()
    after = dict(model.merge_and_unload().named_parameters())
    assert after.keys() == before.keys()
    return {name.split(".", 3)[3] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stay"),
    [
        ("llama", None),
        ("gpt2", None),
        ("qwen3_moe", None),
        ("mixtral", None),
        ("gpt_oss", "mlp.experts.gate_up_proj, model.layers.*.mlp.experts.down_proj (4 tensors, "),
        ("llama4_text", "feed_forward.router, model.layers.*.feed_forward.experts.gate_up_proj, "),
        ("deepseek_v3", "model.layers.*.mlp.gate_proj, model.layers.*.mlp.up_proj, model.layers.*.mlp.down_proj, "),
    ],
)
def test_what_all_linear_leaves_untouched_is_said(name: str, stay: str | None) -> None:
    notes = left_out(adapted(name), "all-linear")
    assert [stay in note for note in notes] == ([] if stay is None else [True])


@pytest.mark.slow
def test_all_linear_leaves_out_layers_whose_result_is_no_product_alone() -> None:
    """Llama 4's router is a linear layer that gives scores and logits; peft added to the pair, and failed in the first step."""
    names = moved(adapted("llama4_text"))
    assert {"self_attn.q_proj.weight", "feed_forward.shared_expert.down_proj.weight"} <= names
    assert not [name for name in names if "router" in name or ".experts." in name]
    with pytest.raises(ModelError, match=r"no layer 'router' that takes an adapter\. This model has .*gate_up_proj"):
        adapted("llama4_text", ["router"])


@pytest.mark.parametrize("name", ["gpt_oss", "llama4_text", "qwen3_moe", "deepseek_v3"])
def test_stacked_experts_train_where_they_are_named(name: str, tmp_path: Any) -> None:
    targets = EXPERTS if name != "deepseek_v3" else ["q_a_proj", *EXPERTS[1:]]
    model = adapted(name, targets)
    assert left_out(model, targets) == []
    save_adapter(model, tmp_path, base="/no/such/base")
    opened = open_adapter(tiny_model(name), tmp_path, trains=True)
    assert opened.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    names = {each.rsplit(".", 1)[-1] if ".experts." in each else "attention" for each in moved(model)}
    assert names == {"gate_up_proj", "down_proj", "attention"}


def test_a_name_means_layers_before_stacked_tensors() -> None:
    assert "feed_forward.shared_expert.down_proj.weight" in moved(adapted("llama4_text", ["down_proj"]))
    assert not [name for name in moved(adapted("llama4_text", ["down_proj"])) if ".experts." in name]


def test_layers_whose_name_peft_moves_to_the_experts_are_said() -> None:
    targets = ["gate_proj", "up_proj", "down_proj"]
    (note,) = left_out(adapted("deepseek_v3", targets), targets)
    assert "model.layers.*.mlp.shared_experts.down_proj (6 tensors" in note
    assert "experts.gate_up_proj" not in note


@pytest.mark.parametrize("settings", [{"dropout": 0.1}, {"dora": True}])
def test_experts_take_neither_dropout_nor_dora(settings: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"take adapters without adapter\.dropout and adapter\.dora\. Leave these out"):
        adapted("qwen3_moe", **settings)
    assert left_out(adapted("gpt_oss", ["q_proj"], **settings), ["q_proj"]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "left_out"), [("llama4_text", {"router"}), ("mamba", {"dt_proj", "out_proj", "x_proj"}), ("llama", set())]
)
def test_all_linear_leaves_out_what_an_adapter_would_not_count_on(name: str, left_out: set[str]) -> None:
    excluded = find_targets(tiny_model(name), "all-linear").excluded
    assert {layer.rsplit(".", 1)[-1] for layer in excluded} == left_out
    model = prepare_adapters(tiny_model(name), LORA)
    loss_of(TokenLoss(model), random_examples([9])).backward()
    second = [value for key, value in model.named_parameters() if "lora_B" in key]
    assert second
    assert all(value.grad is not None and value.grad.any() for value in second)


def test_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'q_proj'"):
        prepare_adapters(tiny_model("llama"), AdapterSettings(kind="lora", targets=["q_prj"]))
