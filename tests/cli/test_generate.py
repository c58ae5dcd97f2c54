from __future__ import annotations

import json

import pytest
from tests.tiny_chat import FACTS, folders

from instil.cli.main import main


def run(*words):
    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        return ended.code or 0
    return 0


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"question": question, "answer": answer} for question, answer in FACTS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_written_in_order_with_all_columns(prompts, tmp_path):
    out = tmp_path / "new" / "answers.jsonl"
    assert run("generate", folders()["tuned"], "--prompts", prompts, "--out", out) == 0
    rows = rows_of(out)
    assert len(rows) == len(FACTS)
    for row, (question, answer) in zip(rows, FACTS, strict=True):
        assert row["prompt"] == [{"role": "user", "content": question}]
        assert row["reference"] == answer.rpartition("</think>\n\n")[2]  # reasoning is no part of what is compared
        assert row["finish_reason"] == "stop"
        assert row["tokens"] == len(answer.encode()) + 1
        assert row["seed"] == 0
    assert [row["prediction"] for row in rows[:4]] == [answer for _, answer in FACTS[:4]]
    assert rows[4]["reasoning"] == "hm hm"
    assert rows[5]["tool_calls"][0]["function"]["name"] == "time"


def test_prompts_come_from_standard_input(prompts, tmp_path, monkeypatch):
    out = tmp_path / "answers.jsonl"
    with prompts.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run("generate", folders()["tuned"], "--prompts", "-", "--out", out) == 0
    assert [row["prompt"][0]["content"] for row in rows_of(out)] == [question for question, _ in FACTS]


def test_a_question_about_an_image_is_refused(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "What is in it?", "image": "a.png"}\n')
    assert run("generate", folders()["tuned"], "--prompts", path, "--out", tmp_path / "answers.jsonl") == 2
    assert f"{path}:1: column 'image' holds image data" in capsys.readouterr().err
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.slow
def test_a_killed_command_continues_and_ends_with_the_same_bytes(prompts, tmp_path, capsys):
    out, model = tmp_path / "answers.jsonl", folders()["tuned"]
    call = ("generate", model, "--prompts", prompts, "--out", out, "--temperature", "0.9", "--num-answers", "2")
    assert run(*call) == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join([lines[3], lines[0], lines[7], lines[5][:30]]))  # three answers and a torn line
    assert run(*call) == 0
    assert out.read_bytes() == whole
    assert "(3 were there already)" in capsys.readouterr().err


def test_answers_of_other_settings_are_not_mixed_in(prompts, tmp_path, capsys):
    out, model = tmp_path / "answers.jsonl", folders()["tuned"]
    assert run("generate", model, "--prompts", prompts, "--out", out, "--limit", "2") == 0
    kept = out.read_bytes()
    assert run("generate", model, "--prompts", prompts, "--out", out, "--limit", "2", "--max-new-tokens", "9") == 2
    assert "another prompt, model or setting" in capsys.readouterr().err
    assert out.read_bytes() == kept
    for foreign in ("notes\n", "notes", '{"epochs": 3}'):
        out.write_text(foreign, encoding="utf-8")
        assert run("generate", model, "--prompts", prompts, "--out", out) == 2
        assert "not an answer of this command" in capsys.readouterr().err
        assert out.read_text(encoding="utf-8") == foreign


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--prompts", "nothing.jsonl"], "no such file"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "hot"], "hot"),
        (["--load", "3bit"], "3bit"),
        (["--limit", "0"], "--limit 0"),
        (["--tempreture", "1"], "tempreture"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, reason, prompts, tmp_path, capsys):
    out = tmp_path / "answers.jsonl"
    options = words if "--prompts" in words else ["--prompts", str(prompts), *words]
    assert run("generate", folders()["tuned"], "--out", out, *options) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert error.count("\n") == 0
    assert not out.exists()


def test_an_unwritable_file_and_a_prompt_too_long_leave_nothing(prompts, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert run("generate", folders()["tuned"], "--prompts", prompts, "--out", tmp_path / "file" / "out.jsonl") == 2
    assert "cannot be written" in capsys.readouterr().err
    long = tmp_path / "long.txt"
    long.write_text("word " * 600 + "\n", encoding="utf-8")
    assert run("generate", folders()["tuned"], "--prompts", long, "--out", tmp_path / "out.jsonl") == 2
    assert "every prompt is too long" in (error := capsys.readouterr().err)
    assert "long.txt:1 (3,019 tokens)" in error
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("model", ["empty", "half", "adapter"])
def test_a_broken_model_is_one_line_and_status_2(model, prompts, tmp_path, capsys):
    folder = tmp_path / model
    folder.mkdir()
    if model == "half":
        (folder / "recipe.yaml").write_text("model: {}\n", encoding="utf-8")
    if model == "adapter":
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/gone"}', encoding="utf-8")
    assert run("generate", folder, "--prompts", prompts, "--out", tmp_path / "out.jsonl") == 2
    error = capsys.readouterr().err.strip()
    assert str(folder) in error
    assert error.count("\n") == 0
    assert not (tmp_path / "out.jsonl").exists()
