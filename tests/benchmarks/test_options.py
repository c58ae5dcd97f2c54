"""Rows and tokenizer of a benchmark: what is named, else the corpus where it is, else the demo's; and it is said."""

from __future__ import annotations

import argparse
import json

import pytest
from tests.benchmarks.programs import program
from tests.tiny_chat import tiny_tokenizer

options = program("options")


def inputs(words: list[str], tmp_path, **more):
    parser = argparse.ArgumentParser()
    options.add_data_option(parser, "--rows")
    options.add_model_options(parser, template="chatml", what="is tested")
    return options.inputs_of(parser.parse_args(words), tmp_path, **more)


@pytest.fixture
def no_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTIL_CORPUS", str(tmp_path / "nothing"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_corpus")
def test_without_a_corpus_the_demo_serves_and_it_is_said(tmp_path, capsys):
    chosen = inputs([], tmp_path)
    assert "rows: the demo's own" in (said := capsys.readouterr().err)
    assert "tokenizer: the demo's" in said
    assert chosen.record() == {"data": chosen.data, "model": chosen.model, "template": "chatml"}
    assert "demo" in chosen.data
    assert (chosen.tokenizer / "tokenizer.json").exists()
    pairs = chosen.pairs(200)
    assert len(pairs) == len(set(pairs)) == 200
    assert all(question and answer for question, answer in pairs)


def test_the_corpus_is_a_default_where_it_is(tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    rows = tmp_path / "datasets" / "gsm8k_train.jsonl"
    rows.write_text(json.dumps({"question": "1+1?", "answer": "2"}) + "\n", encoding="utf-8")
    monkeypatch.setenv("INSTIL_CORPUS", str(tmp_path))
    chosen = inputs([], tmp_path)
    assert chosen.pairs(5) == [("1+1?", "2")]
    assert str(rows) in chosen.data
    assert "demo" in chosen.model  # this corpus has no tokenizer


@pytest.mark.parametrize("spelling", ["--data", "--rows"])
def test_named_rows_and_tokenizer_win(spelling, tmp_path):
    rows = tmp_path / "mine.json"
    talk = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user")]
    rows.write_text(json.dumps([{"messages": talk}, {"text": "plain"}]), encoding="utf-8")
    folder = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(str(folder))
    chosen = inputs([spelling, str(rows), "--model", str(folder)], tmp_path)
    assert (chosen.data, chosen.model, chosen.tokenizer) == (str(rows), str(folder), folder)
    assert chosen.pairs(5) == [("u", "a")]
    written = chosen.write_tokenizer(tmp_path / "written")
    assert "im_start" in (written / "chat_template.jinja").read_text(encoding="utf-8")


def test_rows_of_the_benchmark_itself_are_taken_before_the_corpus(tmp_path):
    chosen = inputs([], tmp_path, own_rows="sums")
    assert (chosen.data, chosen.sources) == ("sums", ())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--data", "nosuch.jsonl"], "nosuch.jsonl"),
        (["--model", "./nosuch"], "./nosuch"),
        (["--subset", "main"], "--subset main"),
    ],
)
def test_what_cannot_be_read_ends_in_one_line(words, found, tmp_path):
    with pytest.raises(SystemExit) as ended:
        inputs(words, tmp_path)
    assert found in str(ended.value)
    assert "\n" not in str(ended.value)


def test_too_few_rows_end_in_one_line(tmp_path):
    rows = tmp_path / "one.jsonl"
    rows.write_text(json.dumps({"question": "1+1?", "answer": "2"}) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"1 conversations with a question and an answer. Expected at least 24"):
        inputs(["--data", str(rows)], tmp_path).pairs(24, at_least=24)


def test_a_peer_that_cannot_be_built_ends_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INSTIL_PEERS", str(tmp_path / "file" / "peers"))
    with pytest.raises(SystemExit) as ended:
        program("peers").peer_python("trl")
    assert "python benchmarks/peers.py trl" in str(ended.value)
    assert "\n" not in str(ended.value)


def test_repeated_rows_are_no_copies():
    other = program("prepare").with_other_numbers
    assert (other("1 and 20", 7), other("none", 7), other("none", 0)) == ("8 and 27", "none (7)", "none")
