"""What is probably wrong with a run is a warning with its figure: on the run card, in plan, prepare and inspect."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.training.command_line import exit_code, train, write_recipe
from transformers import AutoTokenizer

import instil
from instil.encoding.template_warnings import CHAT_NAME
from instil.recipe import Recipe
from instil.screen import Screen

HELD: dict[str, Any] = {"training": {"max_steps": 2}}


def row(number: int, *, words: int = 1) -> dict[str, Any]:
    """Return a short conversation."""
    question = " ".join([f"{number}+1"] * words)
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": str(number + 1)}]}


def rows_of(numbers: Iterable[int], *, words: int = 1) -> list[dict[str, Any]]:
    """Return conversations, all different."""
    return [row(number, words=words) for number in numbers]


def warned(recipe: Path, capsys: pytest.CaptureFixture[str], verb: str) -> dict[str, float | None]:
    """Run a verb with a recipe and return the kinds of its warnings and their figures."""
    capsys.readouterr()
    if verb == "train":
        run = train(recipe)
        shown = capsys.readouterr().err
        warnings = run.results["warnings"]
        assert json.loads((run.folder / "ledger.json").read_text())["warnings"] == warnings
    elif verb == "plan":
        assert exit_code("plan", str(recipe)) == 0
        return {"": None} if capsys.readouterr().err.startswith("warning: ") else {}
    else:
        assert exit_code(verb, str(recipe), "--json") == 0
        warnings = json.loads(capsys.readouterr().out)["warnings"]
        assert exit_code(verb, str(recipe)) == 0
        shown = "".join(capsys.readouterr())  # in a pipe standard error has them; inspect's are part of its report
    for warning in warnings:
        assert warning["text"] in shown
        assert any(line.lstrip().startswith("warning") and warning["text"] in line for line in shown.splitlines())
    return {warning["kind"]: warning["figure"] for warning in warnings}


@pytest.mark.slow
@pytest.mark.parametrize("same", ["path", "content", "most rows"])
@pytest.mark.parametrize("verb", ["train", "prepare", "inspect"])
def test_held_out_rows_that_are_trained(
    same: str, verb: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(40)))
    heldout = {
        "path": trained,
        "content": write_jsonl(tmp_path / "copy.jsonl", reversed(rows_of(range(40)))),
        "most rows": write_jsonl(tmp_path / "part.jsonl", rows_of(range(10, 50))),
    }[same]
    recipe = write_recipe(tmp_path, HELD, {"data": {"heldout": [str(heldout)]}}, base=base, rows=trained)
    assert warned(recipe, capsys, verb)["heldout_is_trained"] == (0.75 if same == "most rows" else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "prepare", "inspect"])
def test_most_rows_too_long(verb: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(40)) + rows_of(range(60), words=30))
    recipe = write_recipe(tmp_path, HELD, {"data": {"max_tokens": 40, "heldout_share": 0.0}}, base=base, rows=rows)
    assert warned(recipe, capsys, verb)["rows_left_out"] == 0.6


@pytest.mark.slow
@pytest.mark.parametrize(("change", "rows", "kind", "figure"), [
    ({"data": {"max_tokens": 40, "too_long": "truncate_answer", "heldout_share": 0.0}},
     [*rows_of(range(5)), {"messages": [{"role": "user", "content": "Go"},
                                        {"role": "assistant", "content": "on and on " * 40}]}],
     "examples_shortened", 1 / 6),
    ({"data": {"heldout_share": 0.0}}, rows_of([*range(20), *range(20)]), "rows_repeated", 0.5),
    ({"data": {"heldout_share": 0.0, "on_bad_row": "skip"}}, [*rows_of(range(8)), {"a": 1}, {"b": 2}],
     "rows_left_out", 0.2),
    ({"data": {"heldout_share": 0.0, "on_bad_row": "skip"}},
     [*rows_of(range(6)), *({"messages": [{"role": "user", "content": str(at)}]} for at in range(2))],
     "rows_left_out", 0.25),
    ({"data": {"heldout_share": 0.2}}, rows_of(range(30)), "few_heldout", None),
    ({"optimizer": {"lr": 0.5}}, rows_of(range(30)), "learning_rate", 0.5),
    ({"optimizer": {"lr": 1e-9}}, rows_of(range(30)), "learning_rate", 1e-9),
    ({"training": {"batch_size": 64}, "data": {"heldout_share": 0.0}}, rows_of(range(30)), "batch_beyond_data", 30),
    ({"training": {"max_steps": 2}}, rows_of(range(30)), "few_steps", 2),
])  # fmt: skip
def test_each_has_its_figure_on_the_run_card(
    change: dict[str, Any],
    rows: list[dict[str, Any]],
    kind: str,
    figure: float | None,
    tmp_path: Path,
    base: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    warnings = warned(write_recipe(tmp_path, HELD, change, base=base, rows=file), capsys, "train")
    assert kind in warnings
    if figure is not None:
        assert warnings[kind] == pytest.approx(figure)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "prepare", "inspect"])
def test_few_held_out_rows_of_a_share(
    verb: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(40)))
    few = write_recipe(tmp_path / "a", HELD, {"data": {"heldout_share": 0.2}}, base=base, rows=file)
    figure = warned(few, capsys, verb)["few_heldout"]
    held = instil.prepare(few).heldout
    assert figure == len(held)
    assert 0 < len(held) < 20
    enough = write_recipe(tmp_path / "b", HELD, {"data": {"heldout_share": 0.8}}, base=base, rows=file)
    assert "few_heldout" not in warned(enough, capsys, verb)


def test_rows_without_a_recipe_need_no_held_out_rows(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(40)))
    assert exit_code("inspect", str(file), "--model", str(base), "--json") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.slow
def test_python_returns_the_warnings(tmp_path: Path, base: Path) -> None:
    rows = rows_of(range(40))
    settings = {"model.name": str(base), "data.heldout_share": 0.2, "data.store": str(tmp_path / "store")}
    run = {"training.max_steps": 2, "training.batch_size": 4, "output": str(tmp_path / "run")}
    planned = instil.plan(data=rows, **settings, **run)
    assert {"few_heldout", "few_steps", "part_of_an_epoch"} <= {warning.kind for warning in planned.warnings}
    recipe = Recipe.from_mapping({"data": {"sources": [str(write_jsonl(tmp_path / "rows.jsonl", rows))]}, **settings})
    inspected = instil.inspect(recipe)
    assert [warning.kind for warning in inspected.survey.warnings] == ["few_heldout"]


@pytest.mark.slow
def test_a_run_that_ends_before_one_epoch(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(40)))
    change = {"data": {"heldout_share": 0.0}, "training": {"max_steps": 2, "batch_size": 5}}
    warnings = warned(write_recipe(tmp_path / "a", change, base=base, rows=file), capsys, "train")
    assert warnings["part_of_an_epoch"] == 0.25
    whole = change | {"training": {"max_steps": 8, "batch_size": 5}}
    assert "part_of_an_epoch" not in warned(write_recipe(tmp_path / "b", whole, base=base, rows=file), capsys, "train")


@pytest.mark.slow
def test_plan_prints_the_warnings(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(30)))
    assert warned(write_recipe(tmp_path, HELD, base=base, rows=file), capsys, "plan")


@pytest.mark.slow
def test_an_ordinary_run_has_no_warning(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(24)))
    heldout = write_jsonl(tmp_path / "heldout.jsonl", rows_of(range(200, 230)))
    change = {
        "training": {"max_steps": 12, "batch_size": 2},
        "data": {"heldout": [str(heldout)]},
        "optimizer": {"lr": None},
    }
    assert warned(write_recipe(tmp_path, HELD, change, base=base, rows=file), capsys, "train") == {}


OWN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"


def with_template(base: Path, folder: Path, template: str | None) -> Path:
    """Copy a model under another name, with a chat template of its own."""
    import shutil

    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "prepare", "inspect"])
def test_another_template_than_the_models_own(
    verb: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_template(base, tmp_path / "model", OWN)
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(30)))
    other = write_recipe(tmp_path / "a", HELD, {"model": {"template": "chatml"}}, base=model, rows=file)
    assert "other_template" in warned(other, capsys, verb)
    (tmp_path / "same.jinja").write_text(f"{OWN}{{# a copy #}}", encoding="utf-8")
    same = {"model": {"template": str(tmp_path / "same.jinja")}}
    assert "other_template" not in warned(write_recipe(tmp_path / "b", HELD, same, base=model, rows=file), capsys, verb)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "prepare", "inspect"])
def test_a_chat_model_without_its_template(
    verb: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows_of(range(30)))
    chat = with_template(base, tmp_path / "Tiny-0.1B-Instruct", None)
    assert "chat_model_as_base" in warned(write_recipe(tmp_path / "a", HELD, base=chat, rows=file), capsys, verb)
    assert "chat_model_as_base" not in warned(write_recipe(tmp_path / "b", HELD, base=base, rows=file), capsys, verb)


@pytest.mark.parametrize(
    ("name", "is_chat"),
    [("Qwen2.5-0.5B-Instruct", True), ("gemma-2-2b-it", True), ("Llama-2-7b-chat-hf", True), ("Mistral-7B-v0.3", False),
     ("SmolLM2-135M", False), ("chatterbox", False), ("bits", False)],
)  # fmt: skip
def test_names_of_chat_models(name: str, is_chat: bool) -> None:
    assert bool(CHAT_NAME.search(name)) == is_chat


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_warnings_are_yellow_in_a_terminal(
    terminal: bool, no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", no_color) if no_color else monkeypatch.delenv("NO_COLOR", raising=False)
    text = "warning    " + "a long text [not markup] " * 20
    Screen().say(text)
    Screen().say("rows plain")
    shown = stream.getvalue()
    assert ("\x1b[33m" in shown) == coloured
    assert shown.endswith("rows plain\n")
    text = text if terminal else text.replace("warning  ", "warning: ")
    assert coloured or " ".join(shown.split()).startswith(" ".join(text.split()))
