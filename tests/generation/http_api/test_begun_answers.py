"""A begun answer is continued by the server as it is from Python, complete and as a stream."""

from __future__ import annotations

import pytest
from tests.generation.http_api.served import Served, openai
from tests.tiny_chat import FACTS, folders

from instil.conversation import Conversation, Message
from instil.generation.chat_model import ChatModel
from instil.generation.engine import Engine
from instil.generation.http_api.begun_answers import continues_last_message
from instil.generation.http_api.problems import Problem
from instil.generation.settings import LoadSettings

pytestmark = pytest.mark.filterwarnings("ignore")
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
ANSWERS = dict(FACTS)
USER = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "So"}


def turns(question, begun, **keys):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": begun, **keys}]


def ask(client, messages, *, tools=(), **body):
    given = {"tools": list(tools)} if tools else {}
    return client.chat.completions.create(model="tiny", messages=messages, extra_body=body, **given)


def streamed(client, messages, *, tools=(), **body):
    """Join the pieces of a streamed answer: content, reasoning, calls, finish reason."""
    given = {"tools": list(tools)} if tools else {}
    content, reasoning, calls, reason = "", "", [], None
    for piece in client.chat.completions.create(model="tiny", messages=messages, stream=True, extra_body=body, **given):
        delta, reason = piece.choices[0].delta, piece.choices[0].finish_reason
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
        calls += [(call.index, call.function.name, call.function.arguments) for call in delta.tool_calls or []]
    return content, reasoning, calls, reason


def whole(client, messages, **given):
    choice = ask(client, messages, **given).choices[0]
    calls = [(n, c.function.name, c.function.arguments) for n, c in enumerate(choice.message.tool_calls or [])]
    reasoning = getattr(choice.message, "reasoning_content", None) or ""
    return choice.message.content or "", reasoning, calls, choice.finish_reason


KEYS = ({"continue_final_message": True}, {"continue_final_message": True, "add_generation_prompt": False})


@pytest.mark.slow
@pytest.mark.parametrize("question", ["Two plus two?", "Say hi"])
def test_the_continuation_is_that_of_python(client, engine, question):
    model, answer = ChatModel(engine), ANSWERS[question]
    for end in range(1, len(answer)):
        if answer[end - 1].isspace():
            continue
        messages = turns(question, answer[:end])
        expected = model.chat(messages, continue_final_message=True)
        assert answer[:end] + expected.text == answer
        said = ask(client, messages, **KEYS[end % 2])
        assert said.choices[0].message.content == expected.text
        assert said.usage.prompt_tokens == len(expected.prompt_ids)
        assert said.usage.completion_tokens == expected.generated.num_tokens
    assert streamed(client, messages, **KEYS[0]) == (expected.text, "", [], "stop")


@pytest.mark.slow
def test_both_spellings_are_one_and_echo_returns_the_whole_turn(client):
    messages = turns("Two plus two?", "So 2+2")
    rest = whole(client, messages, **KEYS[0])
    assert rest == ("=4\n#### 4", "", [], "stop")
    prefixed = turns("Two plus two?", "So 2+2", prefix=True)
    assert whole(client, prefixed) == whole(client, prefixed, **KEYS[0]) == streamed(client, prefixed) == rest
    echoed = (ANSWERS["Two plus two?"], "", [], "stop")
    for read in (whole, streamed):
        assert read(client, messages, echo=True, **KEYS[1]) == read(client, prefixed, echo=True) == echoed
    parts = turns("Two plus two?", [{"type": "text", "text": "So 2+2"}], prefix=True)
    assert whole(client, parts) == rest


@pytest.mark.slow
@pytest.mark.parametrize("read", [whole, streamed])
def test_a_begun_call_and_begun_reasoning_are_read_as_such(client, read):
    call = ANSWERS["Time?"]
    for end in (len("<tool"), len("<tool_call>"), call.index("time") + 2, len(call) - 3):
        begun = turns("Time?", call[:end])
        assert read(client, begun, tools=[TIME], **KEYS[0]) == ("", "", [(0, "time", "{}")], "tool_calls")
        assert read(client, begun, **KEYS[0]) == (call[end:], "", [], "stop")
    # The call stands before the continuation, which is empty.
    assert read(client, turns("Time?", call), tools=[TIME], **KEYS[0]) == ("", "", [], "stop")
    assert read(client, turns("Time?", call), tools=[TIME], echo=True, **KEYS[0])[2:] == (
        [(0, "time", "{}")],
        "tool_calls",
    )
    for begun, reasoning in (("<thi", "hm hm"), ("<think>\nhm", " hm"), ("<think>\nhm hm", "")):
        assert read(client, turns("Think", begun), **KEYS[0]) == ("Yes", reasoning, [], "stop")
    assert read(client, turns("Think", "<think>\nhm"), echo=True, **KEYS[0]) == ("Yes", "hm hm", [], "stop")
    assert read(client, turns("Think", ANSWERS["Think"][:-1]), **KEYS[0]) == ("s", "", [], "stop")


def test_several_answers_and_a_stop_string(client):
    several = ask(client, turns("Two plus two?", "So 2+2"), n=2, **KEYS[0])
    assert [choice.message.content for choice in several.choices] == ["=4\n#### 4"] * 2
    assert several.usage.prompt_tokens == ask(client, turns("Two plus two?", "So 2+2"), **KEYS[0]).usage.prompt_tokens
    # A stop string in the begun part ends nothing.
    assert whole(client, turns("Two plus two?", "So 2+2"), stop=["2+2", "####"], **KEYS[0])[0] == "=4\n"


def refused(client, messages, **body):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages, **body)
    return caught.value.body


WRONG = [  # messages, what the request adds, the key at fault
    ([USER, BEGUN], {"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
    ([USER, BEGUN | {"prefix": True}], {"add_generation_prompt": True}, "add_generation_prompt"),
    ([USER, BEGUN | {"prefix": True}], {"continue_final_message": False}, "messages[1].prefix"),
    ([USER, BEGUN], {"add_generation_prompt": False}, "add_generation_prompt"),
    ([USER], {"add_generation_prompt": False}, "add_generation_prompt"),
    ([USER], {"continue_final_message": True}, "messages[0].role"),
    ([BEGUN], {"continue_final_message": True}, "messages[0].role"),
    ([BEGUN | {"prefix": True}], {}, "messages[0].role"),
    ([USER | {"prefix": True}], {}, "messages[0].role"),
    ([USER, BEGUN | {"prefix": True}, USER], {}, "messages[1].prefix"),
    ([USER, BEGUN | {"prefix": "yes"}], {}, "messages[1].prefix"),
    ([USER, BEGUN | {"prefix": 1}], {}, "messages[1].prefix"),
    ([USER, BEGUN], {"continue_final_message": "yes"}, "continue_final_message"),
    ([USER, BEGUN], {"continue_final_message": 1}, "continue_final_message"),
    ([USER, BEGUN], {"continue_final_message": True, "add_generation_prompt": "no"}, "add_generation_prompt"),
    ([USER, BEGUN], {"continue_final_message": True, "echo": "yes"}, "echo"),
    ([USER], {"echo": True}, "echo"),
    ([USER, BEGUN | {"content": ""}], {"continue_final_message": True}, "messages"),
    ([USER, {"role": "assistant", "tool_calls": [TIME]}], {"continue_final_message": True}, "messages"),
]


@pytest.mark.parametrize(("messages", "change", "key"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_continued_is_one_line(client, messages, change, key):
    error = refused(client, messages, **change)
    assert error["param"] == key
    assert error["message"].startswith(key) or key == "messages"
    assert len(error["message"]) < 300
    assert "\n" not in error["message"]
    for word in ("row", "conversation:", "trained", "data."):
        assert word not in error["message"]


@pytest.mark.slow
def test_a_false_or_null_key_is_as_no_key(client):
    plain = whole(client, [{"role": "user", "content": "Say hi"}])
    for body in ({"continue_final_message": False}, {"add_generation_prompt": True}, {"echo": False},
                 dict.fromkeys(("continue_final_message", "add_generation_prompt", "echo"))):  # fmt: skip
        assert whole(client, [{"role": "user", "content": "Say hi"}], **body) == plain
    asked = [{"role": "user", "content": "Say hi", "prefix": False}]
    assert whole(client, asked) == plain
    ends = [*turns("Say hi", "Hi", prefix=False), {"role": "user", "content": "Say hi"}]
    assert ask(client, ends).usage.prompt_tokens == ask(client, [{k: v for k, v in turn.items() if k != "prefix"} for turn in ends]).usage.prompt_tokens  # fmt: skip


NO_NEW_TURN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role != 'assistant' %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.slow
def test_what_the_template_changes_or_leaves_open_is_refused():
    engine = Engine.load(folders()["tuned"], LoadSettings(template=NO_NEW_TURN))
    with Served(engine, max_new_tokens=16) as served, served.client() as client:
        trimmed = refused(client, turns("Say hi", "Hi "), **KEYS[0])
        assert "ends with 'Hi ', and the template prints 'Hi'" in trimmed["message"]
        assert whole(client, turns("Say hi", "Hi"), **KEYS[0])[0] == " there!"
        # The model would have to write the header of its next turn itself.
        unopened = refused(client, turns("Say hi", "Hi"))
        assert (unopened["param"], "continue_final_message: true" in unopened["message"]) == ("messages[1]", True)


def test_an_answer_at_the_end_is_followed_by_a_further_one_where_the_template_begins_it(client, engine):
    messages = (Message("user", "Say hi"), Message("assistant", "Hi there!"))
    said = ask(client, turns("Say hi", "Hi there!"), max_tokens=4)
    assert said.usage.prompt_tokens == len(engine.prompt(Conversation(messages)))


def test_contradictions_are_found_without_a_server():
    assert not continues_last_message({"messages": [USER]})
    assert continues_last_message({"messages": [USER, BEGUN], "continue_final_message": True})
    with pytest.raises(Problem, match=r"^echo: found true"):
        continues_last_message({"messages": [USER], "echo": True})
