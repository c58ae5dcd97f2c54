"""Ways of computing a step that must not change its result."""

from __future__ import annotations

import shutil

import pytest
import torch
from tests.training.steps import train
from tests.training.tiny import CPU, LearnerMaker

from instil.conversation import Example
from instil.errors import RecipeError
from instil.model.adapters.lora import prepare_adapters
from instil.model.underlying import underlying
from instil.recipe import AdapterSettings
from instil.training.compiling import compile_blocks, wants_compiling


@pytest.mark.parametrize("what", ["sharded", "quantized", "shared"])
def test_compiling_what_is_not_proved_is_refused(what: str):
    with pytest.raises(RecipeError, match=r"training\.compile: on: not with"):
        wants_compiling("on", CPU, **{what: True})
    assert not wants_compiling("auto", torch.device("cuda"), **{what: True})


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: 1 case left out")
def test_compiling_changes_nothing(make_learner: LearnerMaker, examples: list[Example]):
    """LoRA in bf16; `test_demo_equivalences` compiles full fine-tuning in fp32 in every run, `test_combinations` the rest."""

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
