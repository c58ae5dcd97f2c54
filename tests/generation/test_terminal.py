"""The loop of the chat: its lines, its commands and its errors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_chat import tiny_llama, tiny_tokenizer

from instil.conversation import Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import GenerationError
from instil.generation.engine import Engine
from instil.generation.session import Session
from instil.generation.settings import SamplingSettings
from instil.generation.terminal import HELP, Terminal
from instil.generation.tools_file import read_tools_file
from instil.generation.typed_lines import TypedLines


class Named:
    """An engine that is only named: nothing here is answered."""

    name = "model"
    chat = None


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, *lines: str, turns: tuple[Message, ...] = ()
) -> tuple[Session, str]:
    session = Session(engine=Named(), settings=SamplingSettings(), turns=list(turns))  # type: ignore[arg-type]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    Terminal([session], TypedLines(keyboard=False, coloured=False)).run()
    head, _, out = capsys.readouterr().out.partition("\n")
    assert head == "model has no chat template: it continues plain text up to the first line break"
    return session, out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/retray",           r"error: /retray: no such command.*retry.*Type /help for a list."),
        ("/undo",             "error: /undo: there is no question yet. Type one."),
        ("/edit",             "error: /edit: there is no question yet. Type one."),
        ("/tool noon",        "error: /tool: the model has not called a tool."),
        ("/retry",            "error: /retry: there is no answer yet."),
        ("/settings top_k x", "error: /settings: top_k cannot be 'x'."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_the_loop_continues(monkeypatch, capsys, line, message):
    _, out = run(monkeypatch, capsys, line, "/system Be brief.", "/system")
    first, second = out.splitlines()
    assert all(part in first for part in message.split(".*"))
    assert second == "Be brief."


def test_a_command_changes_the_session_that_it_acts_on(monkeypatch, capsys):
    talk = (Message("user", "one?"), Message("assistant", "1"))
    session, _ = run(
        monkeypatch, capsys, "/settings temperature 0.5", "/system none", "/undo", "/exit", "/reset", turns=talk
    )
    assert (session.settings.temperature, session.system, session.turns) == (0.5, None, [])


def test_every_command_of_the_help_exists(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)  # /save writes where the chat was started
    names = [line.split()[0] for line in HELP.splitlines() if line.startswith("/") and not line.startswith("/exit")]
    assert len(names) > 8
    _, out = run(monkeypatch, capsys, *names, "/help")
    assert "no such command" not in out
    assert out.rstrip().endswith(HELP.splitlines()[-1])


PICKY = (
    "{% if messages | length > 3 %}{{ raise_exception('too many turns') }}{% endif %}"
    "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('no such words') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(monkeypatch: pytest.MonkeyPatch, capsys: Any, *lines: str) -> tuple[Session, str]:
    """Type lines to a tiny untrained model, and return its session and what was printed."""
    tokenizer = tiny_tokenizer()
    engine = Engine(tiny_llama(layers=1), tokenizer, chat=ChatTokenizer.from_tokenizer(tokenizer, PICKY))
    session = Session(engine=engine, settings=SamplingSettings(max_new_tokens=3, seed=5))
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    Terminal([session], TypedLines(keyboard=False, coloured=False)).run()
    return session, capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bad", "no such words"), ("/edit bad", "no such words"), ("/edit", "there is no new question"),
        ("/begin bad\n/retry", "no such words"),
    ],
)  # fmt: skip
def test_a_line_that_fails_changes_nothing(monkeypatch, capsys, line, words):
    before, _ = chat(monkeypatch, capsys, "Hi")
    session, out = chat(monkeypatch, capsys, "Hi", line)
    assert words in out
    assert (session.turns, session.settings, session.last) == (before.turns, before.settings, before.last)
    assert [turn.role for turn in session.turns] == ["user", "assistant"]


def test_a_question_that_is_asked_twice_and_refused_leaves_the_first_one(monkeypatch, capsys):
    before, _ = chat(monkeypatch, capsys, "Hi", "Hi")
    session, out = chat(monkeypatch, capsys, "Hi", "Hi", "Hi")
    assert "too many turns" in out
    assert [turn.role for turn in before.turns] == ["user", "assistant"] * 2
    assert session.turns == before.turns


def test_an_answer_is_begun_and_continued(monkeypatch, capsys):
    session, out = chat(monkeypatch, capsys, "/begin Well, then", "Hi", "/continue")
    assert session.turns[-1].content.startswith("Well, then")
    assert (len(session.turns), session.begun) == (2, "")
    assert session.last.num_begun > len("Well, then")
    assert "error" not in out


def test_tools_are_read_from_a_json_list(tmp_path: Path):
    file = tmp_path / "tools.json"
    tool = {"type": "function", "function": {"name": "time", "parameters": {}}}
    file.write_text(json.dumps([tool]), encoding="utf-8")
    (read,) = read_tools_file(file)
    assert read["function"]["name"] == "time"
    file.write_text("[", encoding="utf-8")
    with pytest.raises(GenerationError, match=r"cannot be read as JSON .*Expected a list of tools"):
        read_tools_file(file)
