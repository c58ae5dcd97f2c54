"""Every row of the tables in docs/how-to/coming-from.md is checked: a setting that exists, or data that is read so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.inspection.small_chat import small_chat

from instil.conversation import Place
from instil.data.formats.registry import read_row
from instil.data.formats.row_format import ReadOptions
from instil.errors import RecipeError
from instil.recipe import Recipe, Settings, Source
from instil.setting_aliases import NOT_NEEDED, OTHER_NAMES

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "coming-from.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| you want")
]
SETTINGS = {
    f"{group}.{name}"
    for group, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    for name in field.annotation.model_fields
} | {"output"}
OURS = {*Recipe.model_fields, *(name.rpartition(".")[2] for name in SETTINGS)}
QUESTION = {"role": "user", "content": "2+2?"}
WRONG_HALF, RIGHT_HALF = "Is it 5? ", "No, 4."


def _trained(answer: dict[str, Any]) -> str:
    row = {"messages": [QUESTION, {"role": "assistant", **answer}]}
    options = ReadOptions()
    _, (conversation,) = read_row(row, Place("rows.jsonl", 1), format_name="auto", options=options)
    chat = small_chat()
    return "".join(
        chat.decode([token for token, weight in zip(example.token_ids, example.weights, strict=True) if weight > 0])
        for example in chat.encode(conversation)
    )


def _parts(key: str, kind: str = "text") -> dict[str, Any]:
    parts = [{"type": kind, "text": WRONG_HALF, key: False}, {"type": "text", "text": RIGHT_HALF}]
    return {"content": parts}


def _detail(key: str) -> dict[str, Any]:
    spans = [(0, len(WRONG_HALF), False), (len(WRONG_HALF), len(WRONG_HALF + RIGHT_HALF), True)]
    detail = [{"begin_offset": start, "end_offset": end - 1, "train": train} for start, end, train in spans]
    return {"content": WRONG_HALF + RIGHT_HALF, key: detail}


DATA = {
    "loss of one message": {key: ({"content": RIGHT_HALF, key: False}, "") for key in ("weight", "train", "training")},
    "loss of a part of a message": {key: (_parts(key), f"{RIGHT_HALF}<|im_end|>") for key in ("train", "weight")},
    "loss of characters": {
        key: (_detail(key), f" {RIGHT_HALF}<|im_end|>") for key in ("train_detail", "training_detail")
    },
    "loss on the answer, not its reasoning": {
        "train: false": (_parts("train", "reasoning"), f"<think>\n\n</think>\n\n{RIGHT_HALF}<|im_end|>")
    },
}
"""Rows of the page about keys of data: each key with an answer that has it, and what is then trained of it."""
FILES = {
    "its format": {"dataset_info.json", "type:"},
    "columns with names of your own": {"columns:", "field_instruction", "to_sharegpt"},
    "mixing": {"mix_strategy", "interleave_probs", "max_samples"},
    "a template": {"template: qwen", "chat_template", "get_chat_template"},
    "its stop token": {"map_eos_token"},
    "ShareGPT rows": {"standardize_sharegpt"},
    "LoRA's shape": {"r"},
    "to train": {"trl sft", "axolotl train", "llamafactory-cli train"},
    "to train from Python": {"SFTTrainer"},
    "to prepare": {"axolotl preprocess"},
    "to talk": {"llamafactory-cli chat"},
    "to serve": {"llamafactory-cli api"},
    "to generate": {"FastLanguageModel.for_inference"},
    "GGUF": {"save_pretrained_gguf"},
    "to merge": {"llamafactory-cli export", "axolotl merge-lora", "save_pretrained_merged"},
    "to see the trained tokens": {"axolotl preprocess --debug"},
    "the data": set(),
    "QLoRA": set(),
}
"""What the page names that is no key of a recipe, row by row."""


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(("want", "keys"), DATA.items(), ids=list(DATA))
def test_keys_of_data_are_read_as_the_page_says(want, keys):
    row = next(row for row in ROWS if row[0] == want)
    assert set(_names(row[1])) == set(keys)
    for key, (answer, expected) in keys.items():
        assert _trained(answer) == expected, key


@pytest.mark.parametrize("row", ROWS, ids=[row[0] or row[1] for row in ROWS])
def test_every_row_names_settings_that_exist_and_keys_that_lead_to_them(row):
    want, there, here = row
    if want in DATA:
        return
    ours = [name.partition(":")[0].partition(" ")[0] for name in _names(here)]
    assert all(
        name in SETTINGS
        or name in Source.model_fields
        or name in ("instil", "model", "columns", "data", "cross_entropy")
        or name.endswith("/")
        for name in ours
    ), ours
    theirs = [name for name in _names(there) if name not in FILES.get(want, ())]
    for name in theirs:
        key = name.partition(":")[0]
        if key in OURS:  # the same word here
            continue
        with pytest.raises(RecipeError) as refused:
            Recipe.from_mapping({"data": {key: 1}}, source="recipe.yaml")
        assert any(word in str(refused.value) for word in (OTHER_NAMES.get(key, "not needed: "), "did you mean")), key
        if key in OTHER_NAMES:
            assert OTHER_NAMES[key] in str(refused.value)
        else:
            assert key in NOT_NEEDED, key
