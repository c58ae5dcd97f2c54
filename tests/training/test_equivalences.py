"""Ways of computing a step that must not change its result."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from tests.training.test_step import close, train
from tests.training.tiny import CPU, LearnerMaker

from instil.conversation import Example
from instil.errors import RecipeError
from instil.model.adapters.lora import prepare_adapters
from instil.model.gradient_checkpointing import set_gradient_checkpointing
from instil.model.parts import underlying
from instil.recipe import AdapterSettings
from instil.training.compiling import compile_blocks, wants_compiling


def test_gradient_checkpointing_changes_nothing(make_learner: LearnerMaker, examples: list[Example]):
    calls = []

    def recompute(model: Any) -> Any:
        set_gradient_checkpointing(model, True)
        model.model.layers[0].mlp.gate_proj.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
        return model

    plain, recomputed = make_learner(examples), make_learner(examples, change=recompute)
    forward_passes = 0

    def count(*_: object) -> None:
        nonlocal forward_passes
        forward_passes += 1

    recomputed.loss.register_forward_hook(count)
    assert train(plain, cut=30) == pytest.approx(train(recomputed, cut=30), abs=1e-6)
    assert close(plain, recomputed, tolerance=1e-6)
    assert len(calls) == 2 * forward_passes


@pytest.mark.parametrize("what", ["sharded", "quantized"])
def test_compiling_what_is_not_proved_is_refused(what: str):
    with pytest.raises(RecipeError, match=r"training\.compile: on: not with"):
        wants_compiling("on", CPU, **{what: True})
    assert not wants_compiling("auto", torch.device("cuda"), **{what: True})


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: 1 case left out")
def test_compiling_changes_nothing(make_learner: LearnerMaker, examples: list[Example]):
    """LoRA in bf16; `test_demo_equivalences` compiles full fine-tuning in fp32, `test_combinations` (on request) the rest."""

    def adapted(model: torch.nn.Module) -> torch.nn.Module:
        return prepare_adapters(model, AdapterSettings(kind="lora", rank=4))

    def compiled(model: torch.nn.Module) -> torch.nn.Module:
        model = adapted(model)
        assert compile_blocks(model) == 2
        return model

    assert wants_compiling("on", CPU)
    plain = train(make_learner(examples, precision="bf16", change=adapted), steps=3)
    fused = make_learner(examples, precision="bf16", change=compiled)
    assert train(fused, steps=3) == pytest.approx(plain, abs=0.02)
    assert all(block._compiled_call_impl is not None for block in underlying(fused.loss.model).model.layers)
