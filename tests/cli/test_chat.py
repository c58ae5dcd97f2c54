from __future__ import annotations

import contextlib
import io
import json

import pytest
from tests.tiny_chat import folders

from instil.cli.main import main
from instil.generation.typed_lines import OPENING


@pytest.fixture
def talk(monkeypatch, capsys):
    def run(*lines, options=(), model="tuned"):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
        with contextlib.suppress(SystemExit):
            main(["chat", str(folders()[model]), *map(str, options)])
        captured = capsys.readouterr()
        assert "error" not in captured.err, captured.err
        return captured.out

    return run


@pytest.mark.slow
def test_answers_come_one_a_line(talk):
    assert talk("Capital of Peru?", "/reset", "Say hi", "/exit", "Time?").splitlines() == ["Lima", "Hi there!"]


@pytest.mark.slow
def test_the_model_gets_the_history_and_it_is_saved_as_a_training_row(talk, tmp_path):
    file = tmp_path / "saved.jsonl"
    talk("/system Be kind.", "Say hi", "Again", "/undo", f"/save {file}", f"/save {file}")
    first, second = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    assert first == second
    assert [(m["role"], m["content"]) for m in first["messages"]][:2] == [("system", "Be kind."), ("user", "Say hi")]
    assert [m["role"] for m in first["messages"]] == ["system", "user", "assistant"]


def test_retry_and_edit(talk):
    out = talk("Say hi", "/retry", "/edit Capital of Norway?", "/retry")
    assert out.splitlines() == ["Hi there!", "Hi there!", "Oslo", "Oslo"]


def test_reasoning_is_folded_and_can_be_shown(talk):
    out = talk("Think", "/reasoning")
    assert out.splitlines() == ["Yes", "(2 words of reasoning; /reasoning shows them)", "hm hm"]


def test_tool_calls_are_shown_and_take_a_result(talk):
    out = talk("Time?", "/tool noon")
    assert "(calls time {}; /tool TEXT sends the result)" in out
    assert "<tool_call>" not in out.splitlines()[0]
    assert "error" not in out


def test_tokens_are_the_view_of_inspect(talk):
    lines = talk("Say hi", "/tokens").splitlines()[1:]
    assert lines[0].startswith("⟦trained⟧ (blue, underlined)")
    assert "⟦Hi·there!<|im_end|>⟧" in lines[-2]
    assert lines[-1].startswith("(")
    assert lines[-1].endswith(" trained)")
    assert "expected nothing, or ids" in talk("Say hi", "/tokens all").lower()


def test_characters_of_several_tokens_are_shown_once(talk):
    assert "Chào·bạn·Việt·Nam" in talk("Chào bạn Việt Nam", "/tokens")


def test_token_ids_are_listed_with_what_would_be_trained(talk):
    lines = talk("Say hi", "/tokens ids").splitlines()[1:]
    trained = [line for line in lines if line.endswith("trained")]
    assert len(trained) == len("Hi there!") + 1
    assert "<|im_end|>" in trained[-1]
    assert lines[0].split()[0] == "257"


def test_settings_are_shown_and_changed(talk):
    out = talk("/settings max_new_tokens 3", "Say hi", "/settings", "/settings tempreture 1", "/settings top_k x")
    assert out.startswith("Hi \n(cut at 3 tokens")
    assert "max_new_tokens 3" in out
    assert "did you mean 'temperature'?" in out
    assert "top_k cannot be 'x'" in out


def test_two_models_answer_side_by_side(talk):
    out = talk("Say hi", options=["--against", folders()["base"], "--max-new-tokens", "20"])
    assert f"[{folders()['tuned']}] Hi there!" in out
    assert f"[{folders()['base']}]" in out
    assert "no chat template" in out


def test_a_mistake_is_reported_and_the_chat_continues(talk):
    out = talk("/undo", "/retry", "/save x", "/tool x", "/edit", "/tokens", "/sytem hi", "x" * 600, "Say hi")
    errors = [line for line in out.splitlines() if line.startswith("error: ")]
    assert len(errors) == 8
    assert "did you mean 'system'?" in out
    assert "The model's context is 512" in out
    assert out.splitlines()[-1] == "Hi there!"


def test_a_person_is_told_on_one_line_what_can_be_typed(monkeypatch, capsys, talk):
    assert "/help lists" not in talk("Say hi")
    keyboard = io.StringIO("Say hi\n/exit\n")
    keyboard.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", keyboard)
    with contextlib.suppress(SystemExit):
        main(["chat", str(folders()["tuned"])])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == OPENING
    assert len(first) < 80
    assert second.startswith("you  ")


def test_a_backslash_continues_a_line(talk, tmp_path):
    file = tmp_path / "saved.jsonl"
    talk("Say\\", "hi", f"/save {file}")
    assert json.loads(file.read_text(encoding="utf-8"))["messages"][0]["content"] == "Say\nhi"


def test_a_base_model_reports_that_it_has_no_template(talk):
    out = talk("hello", "/tokens", model="base", options=["--max-new-tokens", "5"])
    assert "has no chat template" in out.splitlines()[0]
    assert "nothing would be trained" in out
