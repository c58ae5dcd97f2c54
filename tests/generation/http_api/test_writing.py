"""Answers in OpenAI's form."""

from __future__ import annotations

import json

from instil.conversation import Message, ToolCall
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.writing import Writing, call_json, message_json, usage
from instil.generation.settings import SamplingSettings


def test_arguments_of_a_call_are_json_text_and_a_missing_id_is_its_number():
    value = call_json(ToolCall("find", {"city": "Hà Nội"}), 2)
    assert (value["id"], value["type"], value["function"]["name"]) == ("call_2", "function", "find")
    assert value["function"]["arguments"] == '{"city": "Hà Nội"}'
    assert call_json(ToolCall("find", "{}", "abc"), 0) == {
        "id": "abc", "type": "function", "function": {"name": "find", "arguments": "{}"},
    }  # fmt: skip


def test_a_message_has_reasoning_and_calls_only_if_there_are_any():
    assert message_json(Message("assistant", "4")) == {"role": "assistant", "content": "4"}
    full = message_json(Message("assistant", "", reasoning="2+2", tool_calls=(ToolCall("add", {"a": 2}),)))
    assert full["reasoning_content"] == "2+2"
    assert json.loads(full["tool_calls"][0]["function"]["arguments"]) == {"a": 2}


def test_a_prompt_is_counted_once_however_many_answers_it_has():
    first, second = [1, 2, 3], [1, 2, 3]  # equal ids, two prompts
    settings = SamplingSettings()
    writings = [
        Writing(number=0, prompt=first, settings=settings, tokens=5),
        Writing(number=1, prompt=first, settings=settings, tokens=7),
        Writing(number=2, prompt=second, settings=settings, tokens=1),
    ]
    assert usage(writings) == {"prompt_tokens": 6, "completion_tokens": 13, "total_tokens": 19}
    for writing, reused in zip(writings, (0, 2, 1), strict=True):
        assert "prompt_tokens_details" not in usage(writings)  # not known of every answer
        writing.read(reused)
    assert usage(writings)["prompt_tokens_details"] == {"cached_tokens": 0 + 1}


def test_the_kind_of_a_problem_follows_its_status():
    kinds = {status: Problem(status, "no").body()["error"]["type"] for status in (400, 401, 404, 429, 500, 503)}
    assert kinds == {
        400: "invalid_request_error", 401: "authentication_error", 404: "invalid_request_error",
        429: "rate_limit_error", 500: "server_error", 503: "server_error",
    }  # fmt: skip
