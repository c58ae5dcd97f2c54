"""Rows of pairs, and stores made of them with the encoder of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.preparation.prepared_data import check, save
from tests.tiny_chat import tiny_tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.settings import EncodingSettings
from instil.preparation.prepare import Prepared, prepare
from instil.preparation.store import ExampleStore
from instil.recipe import Recipe


def pair(number: int) -> dict[str, Any]:
    return {
        "prompt": f"What is {number} + {number}?",
        "chosen": f"It is {2 * number}.",
        "rejected": f"{number}, I guess.",
    }


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def recipe_of(tmp_path: Path, given: list[Any], objective: str = "dpo", **data: Any) -> Recipe:
    settings = {"sources": save(tmp_path / "rows.jsonl", given), "store": str(tmp_path / "store"), "heldout_share": 0}
    return Recipe.from_mapping({"training": {"objective": objective}, "data": {**settings, **data}})


def chat_of(recipe: Recipe, template: str | None = None) -> ChatTokenizer:
    settings = EncodingSettings.from_recipe(recipe.data)
    return ChatTokenizer.from_tokenizer(tiny_tokenizer(), template, settings=settings)


def run_pairs(
    tmp_path: Path,
    given: list[Any],
    objective: str = "dpo",
    *,
    template: str | None = None,
    workers: int | None = None,
    **data: Any,
) -> Prepared:
    recipe = recipe_of(tmp_path, given, objective, **data)
    prepared = prepare(recipe, chat_of(recipe, template), workers=workers)
    check(prepared)
    if objective != "kto":
        for store in (prepared.train, prepared.heldout):
            assert_whole(store)
    return prepared


def assert_whole(store: ExampleStore) -> None:
    """Assert that a store is pairs, the chosen side first: one place, one prompt, two answers."""
    assert store.sides.tolist() == [1, -1] * (len(store) // 2)
    for chosen, rejected in zip(list(store)[::2], list(store)[1::2], strict=True):
        assert chosen.place == rejected.place
        starts = [int((example.weights > 0).argmax()) for example in (chosen, rejected)]
        assert starts[0] == starts[1] > 0
        assert chosen.token_ids[: starts[0]].tolist() == rejected.token_ids[: starts[0]].tolist()
        assert chosen.token_ids.tolist() != rejected.token_ids.tolist()


def answers(prepared: Prepared, chat: ChatTokenizer) -> list[str]:
    """The trained texts of all examples, of all turns together."""
    return [chat.decode(one.token_ids[one.weights > 0].tolist()) for one in prepared.train]
