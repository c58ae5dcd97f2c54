"""Bad requests: the status, the key at fault and the words of the request; null is the same as absent."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from tests.tiny_chat import folders

from instil.generation.engine import Engine
from instil.generation.http_api.app import create_app
from instil.generation.http_api.settings import ServeSettings
from instil.generation.settings import LoadSettings

pytestmark = pytest.mark.filterwarnings("ignore")
TOOL = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
HALF = "cut \ud83d"


@pytest.fixture(scope="module")
def client():
    engine = Engine.load(folders()["tuned"], LoadSettings(dropped_text="accept"))
    app = create_app(engine, ServeSettings(served_name="tiny", max_new_tokens=64, max_body_mb=0.1))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def post(client, body, path="/v1/chat/completions", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content, headers={"content-type": "application/json"} | headers)


def user(content):
    return {"role": "user", "content": content}


def turns(*messages):
    return {"messages": list(messages)}


def called(call):
    return turns(user("a"), {"role": "assistant", "tool_calls": [call]}, user("b"))


BAD = [  # what the request changes, the key that the error names
    (turns(), "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": {"role": "user"}}, "messages"),
    (turns("hi"), "messages[0]"),
    (turns(None), "messages[0]"),
    (turns({}), "messages[0].role"),
    (turns({"content": "x"}), "messages[0].role"),
    (turns({"role": "robot", "content": "x"}), "messages[0].role"),
    (turns({"role": "gpt", "content": "x"}), "messages[0].role"),
    (turns({"role": 3, "content": "x"}), "messages[0].role"),
    (turns({"role": None, "content": "x"}), "messages[0].role"),
    (turns({"role": "user"}), "messages[0].content"),
    (turns(user("a"), user(None)), "messages[1].content"),
    (turns(user(5)), "messages[0].content"),
    (turns(user({"text": "a"})), "messages[0].content"),
    (turns(user([5])), "messages[0].content[0]"),
    (turns(user([{"type": "text"}])), "messages[0].content[0].text"),
    (turns(user([{"type": "text", "text": None}])), "messages[0].content[0].text"),
    (turns(user([{"type": "text", "text": 4}])), "messages[0].content[0].text"),
    (turns(user([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}])),
     "messages[0].content[1].type"),
    (turns(user([{"type": "input_audio", "input_audio": {}}])), "messages[0].content[0].type"),
    (turns(user([{"type": "file", "file": {}}])), "messages[0].content[0].type"),
    (turns(user("a") | {"name": 4}), "messages[0].name"),
    (turns(user("a"), {"role": "tool", "content": "x", "tool_call_id": 4}), "messages[1].tool_call_id"),
    (turns(user("a"), {"role": "assistant", "content": "x", "reasoning_content": []}, user("b")),
     "messages[1].reasoning_content"),
    (turns(user("a"), {"role": "assistant", "tool_calls": 3}), "messages[1].tool_calls"),
    (called(3), "messages[1].tool_calls[0]"),
    (called({"function": 3}), "messages[1].tool_calls[0].function"),
    (called({"function": {"name": ""}}), "messages[1].tool_calls[0].function"),
    (called({"function": {"name": "a", "arguments": 3}}), "messages[1].tool_calls[0].function.arguments"),
    (turns(user(HALF)), "messages[0].content"),
    (turns(user("a"), user([{"type": "text", "text": HALF}])), "messages[1].content[0].text"),
    (turns(user("a") | {"name": HALF}), "messages[0].name"),
    (called({"function": {"name": "a", "arguments": HALF}}), "messages[1].tool_calls[0].function.arguments"),
    ({"tools": [{"function": {"name": "a", "description": HALF}}]}, "tools[0].function.description"),
    ({"stop": ["a", HALF]}, "stop[1]"),
    ({"model": HALF}, "model"),
    ({"user": HALF}, "user"),
    ({"tools": "f"}, "tools"),
    ({"tools": [3]}, "tools[0]"),
    ({"tools": [{}]}, "tools[0].function.name"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"function": {"name": 4}}]}, "tools[0].function.name"),
    ({"tools": [{"function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "sometimes", "tools": [TOOL]}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ({"parallel_tool_calls": 3}, "parallel_tool_calls"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"chat_template_kwargs": []}, "chat_template_kwargs"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 65}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"max_completion_tokens": True}, "max_completion_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 11}, "temperature"),
    ({"temperature": "hot" * 10_000}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": 0}, "top_k"),
    ({"min_p": 1}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"stop": ""}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stream": 1}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include": 1}}, "stream_options"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"logprobs": 3}, "logprobs"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"tempreture": 1}, "tempreture"),
    ({"model": 4}, "model"),
    ({"model": None}, "model"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "key"), BAD, ids=range(len(BAD)))
def test_a_bad_request_names_its_key(client, change, key):
    answer = post(client, {"model": "tiny", **turns(user("Say hi")), **change})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == key
    assert error["message"].startswith(key)
    assert len(error["message"]) < 400
    for word in ("row", "trained", "data.", "max_new_tokens", "sampling setting", "Traceback"):
        assert word not in error["message"]


BODIES = [
    (b"", "empty"), (b"  ", "empty"), (b"{", "not JSON"), (b"[1]", "array"), (b"null", "null"), (b'"x"', "string"), (b"3", "number"),
    (b"\xff\xfe{}", "not UTF-8"), ('{"model": "tiny"}'.encode("utf-16"), "not UTF-8"), (b'{"a": NaN}', "NaN"), (b'{"a": -Infinity}', "Infinity"),
    (b'{"n": 1, "n": 2}', "twice"), (b'{"a": 1e999}', "too large"), (b"[" * 90_000, "nested"), (b'{"a":' * 300 + b"1" + b"}" * 300, "nested"),
    (b'{"a": ' + b"9" * 5000 + b"}", "digits"), (b'{"\\ud83d": 1}', "half a surrogate"), (b'{"' + b"k" * 50_000 + b'": 1, "model": "tiny"}', "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BODIES, ids=range(len(BODIES)))
def test_a_bad_body_is_told(client, body, words):
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = post(client, body, path)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]["message"]
        assert len(answer.text) < 600


COMPLETIONS = [
    ({}, "prompt"), ({"prompt": None}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": 3}, "prompt"), ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [-1]}, "prompt"), ({"prompt": [10**9]}, "prompt"), ({"prompt": HALF}, "prompt"), ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
    ({"prompt": "a", "echo": True}, "echo"), ({"prompt": "a", "best_of": 2}, "best_of"), ({"prompt": "a", "messages": []}, "messages"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "key"), COMPLETIONS, ids=range(len(COMPLETIONS)))
def test_a_bad_completion_names_its_key(client, body, key):
    answer = post(client, {"model": "tiny", **body}, "/v1/completions")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, key)


def test_addresses_methods_types_and_sizes(client):
    body = {"model": "tiny", **turns(user("Say hi"))}
    answers = [
        (404, client.get("/v1/none")), (404, client.get("/v1/%ff%00")), (404, post(client, body | {"model": "other"})),
        (405, client.get("/v1/chat/completions")), (405, client.post("/v1/models")), (413, post(client, b'"' + b"x" * 200_000)),
        (415, client.post("/v1/chat/completions", content=b"{}")), (415, post(client, body, **{"content-type": "text/plain"})),
        (415, post(client, body, **{"content-encoding": "gzip"})), (403, client.get("/v1/models", headers={"host": "evil.example"})),
    ]  # fmt: skip
    for status, answer in answers:
        assert answer.status_code == status, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


NULLS = (
    "stream", "stream_options", "temperature", "top_p", "top_k", "seed", "stop", "n", "tools", "tool_choice", "functions", "function_call",
    "max_completion_tokens", "service_tier", "modalities", "prediction", "audio", "suffix", "best_of", "echo", "response_format",
    "logit_bias", "logprobs", "parallel_tool_calls", "chat_template_kwargs", "reasoning_effort", "a_key_of_tomorrow",
)  # fmt: skip


@pytest.mark.slow
def test_null_is_the_same_as_absent_for_every_key(client):
    plain = {"model": "tiny", **turns(user("Say hi")), "max_tokens": 3}
    post(client, plain)  # from the second time on, the prompt's tokens are cached
    asked = post(client, plain).json()
    assert asked["usage"]["completion_tokens"] == 3
    for keys in (NULLS, *((key,) for key in NULLS)):
        answer = post(client, plain | dict.fromkeys(keys))
        assert answer.status_code == 200, answer.text
        assert (answer.json()["choices"], answer.json()["usage"]) == (asked["choices"], asked["usage"])


@pytest.mark.slow
def test_null_is_absence_inside_messages_tools_and_options(client):
    message = user("Say hi") | dict.fromkeys(
        ("name", "tool_calls", "function_call", "tool_call_id", "refusal", "audio")
    )
    tool = {"type": None, "strict": None, "function": TOOL["function"] | {"strict": None, "description": None}}
    body = {
        "model": "tiny",
        **turns(message),
        "tools": [tool],
        "response_format": {"type": "text", "json_schema": None},
    }
    assert post(client, body | {"chat_template_kwargs": {"enable_thinking": None}}).status_code == 200
    streamed = post(client, body | {"stream": True, "stream_options": {"include_usage": None}})
    assert streamed.text.endswith("data: [DONE]\n\n")
