"""Messages and tools of a request become a conversation; what is malformed is named by its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instil.conversation import Message, ToolCall
from instil.generation.http_api.chat_messages import read_conversation
from instil.generation.http_api.problems import Problem

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def read(*messages, **keys):
    return read_conversation({"messages": list(messages), **keys})


def test_every_role_and_field_is_read():
    call = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": '{"zone": "CET"}'}}
    conversation = read(
        {"role": "developer", "content": "Be brief."},
        USER | {"name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "12:00", "tool_call_id": "c1"},
    )
    developer, user, assistant, tool = conversation.messages
    assert (developer.role, user.name, tool.tool_call_id) == ("developer", "Ada", "c1")
    assert (assistant.reasoning, assistant.tool_calls) == ("hm", (ToolCall("time", {"zone": "CET"}, "c1"),))


def test_parts_are_text_and_the_prefix_key_is_not_the_templates():
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
    (message,) = read({"role": "user", "content": parts}).messages
    assert "a" in str(message.content)
    *_, last = read(USER, {"role": "assistant", "content": "So", "prefix": True}).messages
    assert last == Message("assistant", "So")


def test_tools_are_hidden_by_tool_choice_none_and_variables_are_read():
    assert len(read(USER, tools=[TOOL]).tools) == 1
    assert read(USER, tools=[TOOL], tool_choice="none").tools == ()
    variables = read(USER, reasoning_effort="low", chat_template_kwargs={"enable_thinking": False}).variables
    assert dict(variables) == {"reasoning_effort": "low", "enable_thinking": False}


ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "x", "user", "assistant", "text"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "arguments", "parameters", "id"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
MESSAGES = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls", "function_call", "name", "tool_call_id", "reasoning", "weight"]),
    ODD,
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.one_of(ODD, st.lists(st.one_of(ODD, MESSAGES), max_size=3)), ODD)
def test_any_messages_and_tools_are_read_or_refused_by_name(messages, tools):
    body = {"messages": messages, "tools": tools}
    problem = conversation = None
    try:
        conversation = read_conversation({key: value for key, value in body.items() if value is not None})
    except Problem as raised:
        problem = raised
    if problem is None:
        assert conversation.messages
        return
    assert problem.status == 400
    assert problem.param is not None
    assert problem.param.startswith(("messages", "tools"))
    assert "row" not in problem.message
    assert len(problem.message) < 400


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"messages": [USER]}}, "chat_template_kwargs.messages"),
        ({"chat_template_kwargs": {"tools": [TOOL]}}, "chat_template_kwargs.tools"),
        ({"chat_template_kwargs": {"add_generation_prompt": False}}, "chat_template_kwargs.add_generation_prompt"),
        ({"chat_template_kwargs": {"continue_final_message": True}}, "chat_template_kwargs.continue_final_message"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "x"}]}, "tools[0].type"),
    ],
)
def test_what_is_beside_the_messages_is_named(keys, place):
    with pytest.raises(Problem) as caught:
        read(USER, **keys)
    assert caught.value.param == place
