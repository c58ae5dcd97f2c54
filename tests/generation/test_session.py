"""A conversation in the terminal: its history, saved rows and changed settings."""

from __future__ import annotations

import pytest
from tests.tiny_chat import folders

import instil
from instil.conversation import Message
from instil.errors import GenerationError
from instil.generation.engine import Engine
from instil.generation.session import Session, change_setting
from instil.generation.settings import LoadSettings, SamplingSettings

QUESTION, ANSWER, MORE = Message("user", "one?"), Message("assistant", "1"), Message("user", "two?")


def session(*turns: Message, system: str | None = None) -> Session:
    return Session(engine=None, settings=SamplingSettings(), system=system, turns=list(turns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("turns", "question", "left"),
    [
        ([QUESTION, ANSWER, MORE],        MORE,     [QUESTION, ANSWER]),
        ([QUESTION, ANSWER],              QUESTION, []),
        ([QUESTION, ANSWER, MORE, ANSWER], MORE,    [QUESTION, ANSWER]),
        ([ANSWER],                        None,     [ANSWER]),
        ([],                              None,     []),
    ],
)  # fmt: skip
def test_undo_removes_the_last_question_and_everything_after_it(turns, question, left):
    talk = session(*turns)
    assert talk.undo() == question
    assert talk.turns == left


def test_only_an_answer_can_be_forgotten():
    talk = session(QUESTION, ANSWER)
    talk.forget_answer()
    assert talk.turns == [QUESTION]
    with pytest.raises(GenerationError, match=r"^/retry: there is no answer yet\."):
        talk.forget_answer()


def test_the_system_text_survives_a_reset_and_opens_the_conversation():
    talk = session(QUESTION, system="Be brief.")
    talk.reset()
    assert talk.conversation.messages == (Message("system", "Be brief."),)
    talk.system = None
    with pytest.raises(GenerationError, match="conversation: it is empty"):
        _ = talk.conversation


def test_saved_conversations_are_rows_to_train_on(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    with pytest.raises(GenerationError, match="/save: there is no answer yet"):
        session(QUESTION).save(path)
    assert not path.exists()
    for _ in range(2):
        session(QUESTION, ANSWER, system="Be brief.").save(path)
    rows = list(instil.read(path))
    assert [row.messages for row in rows] == [(Message("system", "Be brief."), QUESTION, ANSWER)] * 2


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["temperature", "0.7"],      "temperature",    0.7),
        (["max-new-tokens", "12"],    "max_new_tokens", 12),
        (["top_k", "none"],           "top_k",          None),
        (["seed", "3"],               "seed",           3),
        (["stop", "END", "STOP"],     "stop",           ("END", "STOP")),
        (["stop"],                    "stop",           ()),
    ],
)  # fmt: skip
def test_a_setting_is_changed_as_it_is_typed(words, name, value):
    assert getattr(change_setting(SamplingSettings(), words), name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["temprature", "1"],    r"no setting 'temprature'.*temperature"),
        (["num_answers", "2"],   "no setting 'num_answers'"),
        (["top_k"],              "top_k takes one value"),
        (["top_k", "x"],         "top_k cannot be 'x'"),
        (["temperature", "-1"],  r"temperature: -1\.0\. Expected 0 or more\."),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_what_is_allowed(words, message):
    with pytest.raises(GenerationError, match=message):
        change_setting(SamplingSettings(), words)


def test_an_answer_is_begun_and_continued():
    engine = Engine.load(folders()["tuned"], LoadSettings(device="cpu"))
    talk = Session(engine=engine, settings=SamplingSettings(max_new_tokens=6))
    talk.begun = "So 2+2"
    stream = talk.ask(Message("user", "Two plus two?"))
    assert "".join(stream) == "=4\n###"
    talk.keep(stream.answer)
    assert talk.turns[-1].content.startswith("So 2+2=4")
    assert talk.begun == ""
    talk.begin_with_last_answer()
    assert talk.turns == [Message("user", "Two plus two?")]
    stream = talk.stream()
    rest = "".join(stream)
    talk.keep(stream.answer)
    assert talk.turns[-1].content == "So 2+2=4\n#### 4"
    assert rest
    with pytest.raises(GenerationError, match="/continue: there is no answer yet"):
        session(QUESTION).begin_with_last_answer()
