from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from instil.cli.main import main

ROW = {"question": "q", "answer": "a"}


def run(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_convert_writes_the_other_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "a.jsonl", tmp_path / "b.json"
    source.write_text(json.dumps(ROW) + "\n")
    assert run("convert", str(source), str(out), "--to", "sharegpt") == 0
    assert json.loads(out.read_text()) == [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    ]
    assert "1 row in" in capsys.readouterr().err


def test_convert_reads_patterns_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"title": "T", "summary": "S"}\n')))
    words = ["convert", "-", "-", "--columns.user", "About {title}", "--columns.assistant", "{summary}"]
    assert run(*words, "--to", "question_answer") == 0
    assert json.loads(capsys.readouterr().out) == {"question": "About T", "answer": "S"}


def test_convert_refuses_what_the_target_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning": "r"}]
    source.write_text(json.dumps({"messages": messages}) + "\n")
    assert run("convert", str(source), str(out), "--to", "alpaca") == 2
    assert capsys.readouterr().err.startswith(f"error: {source}:1: has reasoning on an assistant message, which alpaca")
    assert not out.exists()


def test_convert_skips_bad_rows_and_reports_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(json.dumps(ROW) + '\n{"foo": 1}\n')
    assert run("convert", str(source), str(out)) == 2
    assert not out.exists()
    assert run("convert", str(source), str(out), "--on-bad-row", "skip") == 0
    assert f"1 row left out; the first: {source}:2: found columns foo" in capsys.readouterr().err


def test_a_missing_file_offers_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW))
    assert run("convert", str(tmp_path / "trian.jsonl"), "-") == 2
    assert f"no such file (did you mean '{tmp_path / 'train.jsonl'}'?)" in capsys.readouterr().err


def test_convert_does_not_write_over_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(ROW) + "\n")
    assert run("convert", str(source), str(source), "--to", "sharegpt") == 2
    assert "is the file to read" in capsys.readouterr().err
    assert json.loads(source.read_text()) == ROW


def test_a_column_that_the_target_would_take_for_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({**ROW, "documents": ["mine"]}) + "\n")
    assert run("convert", str(source), str(tmp_path / "b.jsonl")) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {source}:1: has a column of its own named 'documents', which messages would read with another meaning"
    )
    assert "Rename or drop that column" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


def test_convert_writes_the_text_that_a_template_prints_and_tells_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(json.dumps(ROW) + '\n{"question": "r", "answer": " b"}\n')
    assert run("convert", str(source), str(out), "--to", "gemma-text") == 0
    assert [json.loads(line)["text"] for line in out.read_text("utf-8").splitlines()] == [
        f"<bos><start_of_turn>user\n{q}<end_of_turn>\n<start_of_turn>model\n{a}<end_of_turn>\n"
        for q, a in (("q", "a"), ("r", "b"))
    ]
    assert capsys.readouterr().err == (
        f"as gemma-text, white space at the ends of texts is lost: 1 row\n2 rows in {out} as gemma-text\n"
    )


def test_a_wrong_format_is_explained_before_the_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", str(tmp_path / "none.jsonl"), "-", "--to", "chatml") == 2
    assert "Rows of role and content are called messages here." in capsys.readouterr().err
    assert run("convert", str(tmp_path / "none.jsonl"), "-", "--to", "text") == 2
    assert "no such file" in capsys.readouterr().err


def test_convert_reads_pairs_and_judged_answers_for_an_objective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, pairs, judged = (tmp_path / f"{name}.jsonl" for name in ("ultra", "pairs", "judged"))
    source.write_text(json.dumps({"prompt": "q", "responses": ["bad", "good"], "scores": [1, 2]}) + "\n")
    assert run("convert", str(source), str(pairs), "--to", "preference") == 2
    assert "Set --objective dpo" in capsys.readouterr().err
    assert run("convert", str(source), str(pairs), "--to", "preference", "--objective", "dpo") == 0
    row = json.loads(pairs.read_text())
    assert [row[key][0]["content"] for key in ("prompt", "chosen", "rejected")] == ["q", "good", "bad"]
    assert run("convert", str(pairs), str(judged), "--to", "kto", "--objective", "kto") == 0
    assert [json.loads(line)["label"] for line in judged.read_text().splitlines()] == [True, False]
    assert run("convert", str(pairs), str(tmp_path / "text.jsonl"), "--to", "chatml-text", "--objective", "dpo") == 2
    assert "side chosen, which text cannot hold" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["foo", "auto", "scored", "pattern"])
def test_a_wrong_target_lists_what_can_be_written(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(ROW) + "\n")
    assert run("convert", str(source), str(tmp_path / "b.jsonl"), "--to", target) == 2
    allowed = capsys.readouterr().err.partition("Expected ")[2].partition(".")[0].split(", ")
    assert "messages" in allowed
    assert not {"auto", "scored", "pattern"} & set(allowed)
    for name in set(allowed) - {"preference", "kto", "text"}:  # what those hold is not one question with its answer
        assert run("convert", str(source), str(tmp_path / f"{name}.jsonl"), "--to", name) == 0


def test_an_error_about_columns_names_the_options_of_convert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"foo": "q", "bar": "a"}\n')
    assert run("convert", str(source), str(tmp_path / "b.jsonl")) == 2
    error = capsys.readouterr().err
    assert "such as --columns.user '{foo}' --columns.assistant '{bar}'" in error
    assert "data.columns" not in error
