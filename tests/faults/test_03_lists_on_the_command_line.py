"""A list is the same list however it is typed, for every list setting of the recipe and every verb that takes settings."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import exit_code

from instil.cli.list_options import WITH_SETTINGS, list_settings, with_lists
from instil.cli.main import build_app
from instil.recipe import Recipe

ITEMS: dict[str, list[Any]] = {
    "adapter.targets": ["q_proj", "v_proj"],
    "data.sources": ["one.jsonl", "two.jsonl"],
    "data.heldout": ["one.jsonl", "two.jsonl"],
    "training.freeze": ["model.embed*", "*.norm.weight"],
    "optimizer.betas": [0.8, 0.95],
    "evaluate.tasks": ["exact_match", "numeric"],
    "evaluate.samples": ["Hi, you there?", "- What?"],
    "tracking.to": ["tensorboard", "wandb"],
}


def typed(verb: str, *words: str) -> Recipe:
    """Return the recipe of a command line."""
    return parsed(verb, *with_lists([verb, *words]))


@cache
def parsed(verb: str, *words: str) -> Recipe:
    """Return the recipe of words without lists: the ways to type a list come out as the same few, parsed once each."""
    arguments = build_app(verb).parse_args(words)[1].arguments
    settings = arguments["settings"].model_dump(exclude_unset=True)
    return Recipe.from_mapping(settings if verb != "inspect" else {"data": settings})


def value_of(recipe: Recipe, key: str) -> Any:
    group, name = key.split(".")
    value = getattr(getattr(recipe, group), name)
    return [source.path for source in value] if group == "data" else list(value)


def test_every_list_setting_is_here() -> None:
    assert set(list_settings()) == set(ITEMS)


@pytest.mark.slow
@pytest.mark.parametrize("verb", WITH_SETTINGS)
@pytest.mark.parametrize("key", ITEMS)
def test_all_ways_to_type_a_list_give_the_same(
    key: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if verb == "inspect" and not key.startswith("data."):
        return
    monkeypatch.chdir(tmp_path)
    for name in ("one.jsonl", "two.jsonl"):
        write_jsonl(tmp_path / name, [{"text": name}])
    option, values = f"--{key}", ITEMS[key]
    plain = [str(value) for value in values]
    ways = {
        "spaces": [option, *plain],
        "repeated": [option, plain[0], option, plain[1]],
        "equals": [f"{option}={plain[0]}", f"{option}={plain[1]}"],
        "JSON": [option, json.dumps(values)],
        "JSON behind equals": [f"{option}={json.dumps(values)}"],
        "another option between": [option, plain[0], "--data.workers", "2", option, plain[1]],
    }
    if key != "evaluate.samples":
        ways["commas"] = [option, ",".join(plain)]
        ways["commas and spaces"] = [option, ", ".join(plain)]
    if key not in ("evaluate.samples", "data.sources", "data.heldout"):
        ways["YAML"] = [option, f"[{', '.join(map(json.dumps, plain) if key == 'training.freeze' else plain)}]"]
    if plain[1].startswith("-"):  # as for every program, such a value needs the equals sign
        for way in ("spaces", "repeated", "another option between"):
            del ways[way]
    for way, words in ways.items():
        assert value_of(typed(verb, "r.yaml", *words), key) == values, (way, words)
        assert value_of(typed(verb, *words, "r.yaml"), key) == values, (way, "recipe last", words)
    if key != "optimizer.betas":
        assert value_of(typed(verb, "r.yaml", option, plain[0]), key) in ([plain[0]], list(plain[0]))
    if key not in ("optimizer.betas", "adapter.targets"):
        assert value_of(typed(verb, "r.yaml", option, "[]"), key) == []


@pytest.mark.slow
def test_commas_in_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with a comma stays one path, and so do a glob and a missing file; prompts are never cut."""
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.jsonl", "c.jsonl", "x,1.jsonl", "[y].jsonl"):
        write_jsonl(tmp_path / name, [{"text": name}])
    for word in ("a,b.jsonl", "x,*.jsonl", "missing,other.jsonl", "[y].jsonl", "[ab],[cd].jsonl"):
        assert value_of(typed("train", "r.yaml", "--data.sources", word), "data.sources") == [word]
    assert value_of(typed("train", "r.yaml", "--data.sources", "c.jsonl,-"), "data.sources") == ["c.jsonl", "-"]
    both = typed("train", "r.yaml", "--data.sources", "a,b.jsonl", "c.jsonl")
    assert value_of(both, "data.sources") == ["a,b.jsonl", "c.jsonl"]
    mapping = typed("train", "r.yaml", "--data.sources", '[{"path": "c.jsonl", "rows": 3}, "a,b.jsonl"]').data.sources
    assert [(source.path, source.rows) for source in mapping] == [("c.jsonl", 3), ("a,b.jsonl", None)]


@pytest.mark.parametrize("words", [["q_proj", "--adapter.targets", "v_proj"], ["q_proj", "v_proj"], ["q_proj,v_proj"]])
def test_prepare_and_python_take_what_train_takes(words: list[str], tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"question": f"{n}?", "answer": "a"} for n in range(4)])
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"data": {"sources": [str(rows)], "store": str(tmp_path / "s")}}))
    assert exit_code("prepare", str(tmp_path / "r.yaml"), "--adapter.targets", *words) == 0
    assert typed("train", "r.yaml", "--adapter.targets", *words).adapter.targets == ["q_proj", "v_proj"]
    assert Recipe.from_mapping({"adapter": {"targets": "q_proj, v_proj"}}).adapter.targets == ["q_proj", "v_proj"]


def test_a_broken_list_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("{}")
    for words, error in (
        (["--adapter.targets", '["q_proj" "v_proj"]'], "adapter.targets: found"),
        (["--training.freeze"], "--training.freeze has no value"),
        (["--adapter.targets", "[]"], "adapter.targets"),
        (["--adapter.targets", "all-linear,q_proj"], "all-linear alone"),
    ):
        assert exit_code("prepare", str(tmp_path / "r.yaml"), *words) == 2, words
        assert error in capsys.readouterr().err, words


def test_tasks_of_evaluate_take_commas_too() -> None:
    for words in (["--task", "a,b"], ["--task", "a", "b"], ["--task", "a", "--task", "b"], ["--task", '["a", "b"]']):
        assert with_lists(["evaluate", "run", *words]) == ["evaluate", "run", "--task=a", "--task=b"]
