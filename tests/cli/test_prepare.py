from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml
from tests.tiny_chat import tiny_llama, tiny_tokenizer

from instil.cli.main import main
from instil.encoding import tokenizer_setup
from instil.preparation.store import ExampleStore


def run(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {n}?", "answer": f"A number, {n}."} for n in range(60)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": {"name": str(tmp_path / "model")},
        "data": {"sources": [str(data)], "store": str(tmp_path / "store")},
    }
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    tiny_llama().save_pretrained(tmp_path / "model")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_prepare_prints_the_ledger_and_makes_the_store(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", str(recipe)) == 0
    output = capsys.readouterr().out
    assert "question_answer (columns question, answer in 60 of 60 rows)" in output
    assert "rows in          60 = " in output
    assert run("prepare", str(recipe)) == 0
    assert "(was there already)" in capsys.readouterr().out


def changed_data(recipe: Path) -> None:
    with recipe.with_name("rows.jsonl").open("a") as stream:
        stream.write(json.dumps({"question": "One more?", "answer": "Yes."}) + "\n")


def changed_setting(recipe: Path) -> None:
    settings = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**settings, "data": {**settings["data"], "train_on": "last"}}))


def changed_tokenizer(recipe: Path) -> None:
    path = recipe.with_name("model") / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": {"type": "Lowercase"}}))


class AnotherDay(date):
    @classmethod
    def today(cls) -> AnotherDay:
        return cls(2001, 1, 1)


def stores(recipe: Path) -> list[Path]:
    return [path for path in recipe.with_name("store").iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize("change", [changed_data, changed_setting, changed_tokenizer])
def test_other_files_or_settings_make_another_store(
    recipe: Path, change: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare", str(recipe)) == 0
    assert run("prepare", str(recipe)) == 0
    assert len(stores(recipe)) == 1
    change(recipe)
    capsys.readouterr()
    assert run("prepare", str(recipe)) == 0
    assert "(written, " in capsys.readouterr().out
    assert len(stores(recipe)) == 2


def test_a_damaged_store_is_made_again(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", str(recipe)) == 0
    next(recipe.with_name("store").glob("*/examples.arrow")).write_bytes(b"cut")
    capsys.readouterr()
    assert run("prepare", str(recipe)) == 0
    assert "(written, " in capsys.readouterr().out
    assert len(stores(recipe)) == 1


@pytest.mark.slow
def test_a_store_of_another_day_is_not_used_where_the_template_prints_the_day(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = recipe.with_name("dated.jinja")
    template.write_text(
        "{{ strftime_now('%d %B %Y') }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    command = ("prepare", str(recipe), "--model.template", str(template))
    assert run(*command) == 0
    assert run(*command) == 0
    assert len(stores(recipe)) == 1
    monkeypatch.setattr(tokenizer_setup, "date", AnotherDay)
    capsys.readouterr()
    assert run(*command) == 0
    assert "(written, " in capsys.readouterr().out
    assert len(stores(recipe)) == 2


def test_prepare_json_describes_what_training_will_open(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", str(recipe), "--json", "--data.heldout-share", "0", "--workers", "1") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows_in"], report["rows_trained"], report["rows_left_out"]) == (60, 60, 0)
    store = ExampleStore.open(report["folder"])
    assert len(store) == 60
    assert report["trained_tokens"] == sum(int((example.weights > 0).sum()) for example in store)
    example = store[0]
    assert example.weights[-1] == 1.0
    assert example.weights[0] == 0.0


def test_a_bad_row_is_one_line_and_exit_status_2(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = recipe.with_name("rows.jsonl")
    data.write_text(data.read_text() + '{"messages": [{"role": "user", "content": "alone"}]}\n')
    assert run("prepare", str(recipe)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {data}:61: has no assistant turn. Expected at least one")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_two_workers_make_the_same_store_with_the_real_tokenizer(
    recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stores = []
    for workers in ("1", "2"):
        assert run("prepare", str(recipe), "--json", "--workers", workers, "--data.store", str(tmp_path / workers)) == 0
        folder = Path(json.loads(capsys.readouterr().out)["folder"])
        stores.append({entry.name: entry.read_bytes() for entry in folder.iterdir()})
    assert stores[0] == stores[1]


def test_a_store_that_cannot_be_written_is_one_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "file").write_text("x")
    assert run("prepare", str(recipe), "--data.store", str(recipe.parent / "file" / "store")) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {recipe.parent / 'file' / 'store'}: cannot hold prepared data (Not a directory)")
    assert "set data.store" in error


def test_a_row_that_the_template_refuses_is_named_with_the_remedy(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = recipe.parent / "strict.jinja"
    template.write_text(
        "{% for m in messages %}{% if 'What is 3?' in m.content %}{{ raise_exception('no threes') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert run("prepare", str(recipe), "--model.template", str(template)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {recipe.parent / 'rows.jsonl'}:4: the template refuses it (")
    assert "no threes). Expected turns that the template allows. Fix the row, choose another model.template" in error
    assert not list((recipe.parent / "store").glob(".tmp-*"))
