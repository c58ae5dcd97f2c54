from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.model.tiny import tiny_model
from tests.training.command_line import exit_code, make_base, write_recipe
from tests.training.tiny import CPU, tiny_llama

from instil.errors import ModelError
from instil.model.adapters.lora import prepare_adapters
from instil.model.chat_tokens import TokenChange
from instil.model.folder.location import ModelLocation
from instil.model.folder.saving import save_adapter
from instil.model.library_noise import quiet_transformers
from instil.model.new_tokens import add_rows
from instil.recipe import AdapterSettings, Recipe
from instil.training.trainable import make_empty_trainable


def test_a_target_that_takes_no_adapter_is_refused_with_those_that_do():
    adapter = Recipe.from_mapping({"adapter": {"kind": "lora", "targets": ["norm"]}}).adapter
    with pytest.raises(
        ModelError, match=r"no layer 'norm' that takes an adapter\. This model has down_proj, embed_tokens"
    ):
        prepare_adapters(tiny_llama(), adapter)


def test_layers_that_peft_refuses_are_one_line():
    with pytest.raises(ModelError, match=r"adapter\.targets: .*Mamba.*adapter\.kind: none"):
        prepare_adapters(tiny_model("mamba"), AdapterSettings(kind="lora", targets=["out_proj"]))


LORA = {"kind": "lora", "rank": 2}


def adapter_of(folder: Path, *, new_rows: bool) -> Path:
    """Save a fresh adapter of the tests' base model, on its queries alone."""
    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(make_base(folder / "base"))
    if new_rows:
        add_rows(model, 259)
    settings = AdapterSettings(kind="lora", rank=2, targets=["q_proj"])
    save_adapter(
        prepare_adapters(model, settings, trained_ids=(257, 258) if new_rows else ()),
        folder / "adapter",
        base=str(folder / "base"),
    )
    return folder / "adapter"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": {"freeze": ["nosuch.*"]}}, "training.freeze: 'nosuch.*' matches no parameter"),
        ({"training": {"freeze": ["*"]}}, "training.freeze: nothing is left to train"),
        ({"training": {"freeze": ["lm_head.*"]}}, "lm_head.weight, which is model.embed_tokens.weight by another name"),
        ({"adapter": {**LORA, "targets": ["q_prj"]}}, "adapter.targets: no layer 'q_prj' (did you mean 'q_proj'?)"),
        ({"adapter": {**LORA, "targets": ["q_proj", "embed_tokens"]}}, "embed_tokens is a target and has new chat"),
        ({"adapter": LORA, "training": {"freeze": ["layers.7.*"]}}, "'layers.7.*' matches no parameter"),
        ({"adapter": LORA, "training": {"freeze": ["*"]}}, "nothing is left to train"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "plan"])
def test_what_does_not_fit_the_model_is_said_before_the_data_is_prepared(
    verb: str,
    changes: dict[str, Any],
    said: str,
    tmp_path: Path,
    base: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
):
    recipe = write_recipe(tmp_path, changes, {"data": {"store": str(tmp_path / "store")}}, base=base, rows=rows)
    assert exit_code(verb, str(recipe)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "rows in" not in captured.out
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_lacks_rows_of_new_tokens_is_said_before_the_data_is_prepared(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    changes = {"adapter": {"kind": "lora", "resume_from": str(adapter_of(tmp_path, new_rows=False))}}
    recipe = write_recipe(tmp_path, changes, base=tmp_path / "base", rows=rows)
    assert exit_code("train", str(recipe)) == 2
    captured = capsys.readouterr()
    assert (
        "the adapter to continue does not train the rows of tokens [257, 258]. Merge it first (instil export)"
        in captured.err
    )
    assert "rows in" not in captured.out


@pytest.mark.slow
def test_a_plan_counts_the_layers_of_the_adapter_that_goes_on(
    tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]
):
    changes = {"adapter": {"kind": "lora", "resume_from": str(adapter_of(tmp_path, new_rows=True))}}
    assert exit_code("plan", str(write_recipe(tmp_path, changes, base=tmp_path / "base", rows=rows))) == 0
    trained = 2 * (2 * 32 + 32 * 2) + 2 * 32  # two layers' queries at rank 2, and two rows of the tied table
    assert f"of which {trained} train" in capsys.readouterr().out


def test_names_that_only_rows_found_in_the_weights_would_have_are_no_mistake(tmp_path: Path):
    """Whether rows of tokens that are there look untrained is seen in the weights: until then no frozen name of theirs is refused."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = make_base(tmp_path / "base")
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(base).to("meta")
    recipe = Recipe.from_mapping({"adapter": LORA, "training": {"freeze": ["*trainable_tokens*"]}})
    bare = make_empty_trainable(
        model,
        ModelLocation("base", "base", base),
        adapter=recipe.adapter,
        training=recipe.training,
        tokenizer=AutoTokenizer.from_pretrained(base),
        change=TokenChange((), (256,), "<|endoftext|>", "<|endoftext|>"),
        device=CPU,
    )
    assert all(value.is_meta for value in bare.parameters())
    assert sum(value.requires_grad for value in bare.parameters()) == 2 * 2 * 7
