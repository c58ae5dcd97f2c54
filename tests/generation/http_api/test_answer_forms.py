"""JSON, forced calls, log-probabilities and penalties, asked for by the official client."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")
openai = pytest.importorskip("openai")

from pydantic import BaseModel  # noqa: E402
from tests.generation.http_api.served import Served  # noqa: E402

from instil.generation.constraints.constraint import Matcher  # noqa: E402
from instil.generation.http_api.answer_forms import read_form, read_top_logprobs  # noqa: E402
from instil.generation.http_api.problems import Problem  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "grün"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
TOOL = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}


def ask(client, **settings):
    settings = {"messages": [{"role": "user", "content": "Paint it"}]} | settings
    return client.chat.completions.create(model="tiny", **settings)


@pytest.mark.slow
def test_every_answer_is_json_of_the_schema_and_a_stream_is_the_same(client):
    asked = {"response_format": FORMAT, "temperature": 1.5, "seed": 3, "n": 3}
    whole = ask(client, **asked)
    texts = [choice.message.content for choice in whole.choices]
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)
    assert len(texts) == 3
    assert {choice.finish_reason for choice in whole.choices} == {"stop"}
    streamed = ["", "", ""]
    for chunk in ask(client, **asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


@pytest.mark.slow
def test_a_cut_answer_says_so_and_text_is_free(client):
    cut = ask(client, response_format=FORMAT, max_tokens=3).choices[0]
    assert cut.finish_reason == "length"
    assert (
        ask(client, response_format={"type": "text"}).choices[0].message.content
        == ask(client).choices[0].message.content
    )


def test_a_form_that_cannot_be_followed_to_its_end_is_the_requests_fault(client, monkeypatch):
    """llguidance's limits end some forms in the middle of an answer; here they end every form at its third token."""
    apply, calls = Matcher.apply, []

    def limited(self, logits):
        calls.append(self)
        if len(calls) > 2:
            self._matcher.consume_token(len(logits) + 10_000)  # no such token: the matcher has an error from here on
        return apply(self, logits)

    monkeypatch.setattr(Matcher, "apply", limited)
    reason = "response_format.json_schema.schema: the answer cannot go on .*Use a simpler schema"
    with pytest.raises(openai.BadRequestError, match=reason) as error:
        ask(client, response_format=FORMAT)
    assert error.value.status_code == 400
    assert error.value.param == "response_format.json_schema.schema"
    calls.clear()
    with pytest.raises(openai.APIError, match="the answer cannot go on") as error:
        list(ask(client, response_format=FORMAT, stream=True))
    assert error.value.type == "invalid_request_error"


def test_json_objects_are_objects(client):
    for seed in range(3):
        choice = ask(
            client, response_format={"type": "json_object"}, temperature=2.0, seed=seed, max_tokens=128
        ).choices[0]
        assert choice.message.content.startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)


def test_the_client_parses_an_answer_into_its_own_model(client):
    class Thing(BaseModel):
        colour: str
        n: int

    parse = client.chat.completions.parse
    limited = parse(model="tiny", messages=[{"role": "user", "content": "x"}], response_format=_limited(Thing), seed=1)
    assert limited.choices[0].message.parsed.n in range(10)


def _limited(base):
    from typing import Literal

    from pydantic import create_model

    return create_model("Limited", colour=(Literal["red", "blue"], ...), n=(Literal[1, 2, 3], ...))


def test_a_begun_answer_is_continued_or_refused(client):
    begun = [{"role": "user", "content": "x"}, {"role": "assistant", "content": '{"colour": "red", '}]
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    choice = ask(client, messages=begun, response_format=FORMAT, extra_body=extra).choices[0]
    jsonschema.validate(json.loads(begun[1]["content"] + choice.message.content), SCHEMA)
    begun[1]["content"] = "Sure:"
    with pytest.raises(openai.BadRequestError, match="is not the beginning of an answer of this form"):
        ask(client, messages=begun, response_format=FORMAT, extra_body=extra)


@pytest.mark.parametrize(
    ("schema", "place", "message"),
    [
        ({"type": "string", "maxLenght": 3}, ".maxLenght", "unknown keyword"),
        ({"properties": {"a": {"not": {}}}}, ".properties.a.not", "cannot be enforced"),
        ({"x-guidance": {"lenient": True}, "type": "object"}, ".x-guidance", "unknown keyword"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "", "Unsatisfiable"),
        ({"type": "string", "pattern": "("}, "", "unclosed group"),
        ({"$ref": "#"}, "", "only endless JSON"),
        ({"type": "strin"}, ".type", "Expected one or several of object"),
        ([], "", "Expected a JSON schema"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_by_place(client, schema, place, message):
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ask(client, response_format=asked)
    assert caught.value.param == f"response_format.json_schema.schema{place}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"response_format": {"type": "json_object"}, "stop": ["x"]}, "stop"),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always", "tools": [TOOL]}, "tool_choice"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": [TOOL]},
            "tool_choice.function.name",
        ),
    ],
)
def test_a_form_that_contradicts_the_request_is_refused(body, param):
    with pytest.raises(Problem) as caught:
        read_form(body, body.get("tools", ()))
    assert caught.value.param == param


@pytest.mark.parametrize("body", [{"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 21}, {"logprobs": 1}])
def test_wrong_numbers_of_logprobs_are_refused(body):
    with pytest.raises(Problem):
        read_top_logprobs(body, chat=True)


def test_calls_of_a_template_without_them_are_refused(client):
    with pytest.raises(openai.BadRequestError, match=r"tool_choice: .*Use tool_choice auto") as caught:
        ask(client, tools=[TOOL], tool_choice="required")
    assert caught.value.param == "tool_choice"


def independent(engine, prompt, answer):
    """Return the log-probabilities [T, V] of an answer's places by one plain forward pass."""
    with torch.no_grad():
        logits = engine.model(torch.tensor([prompt + answer])).logits[0].double()
    return logits.log_softmax(-1)[len(prompt) - 1 : -1]


def test_logprobs_are_those_of_a_plain_forward_pass(client, engine):
    from instil.conversation import Conversation, Message

    asked = {"logprobs": True, "top_logprobs": 3, "temperature": 1.7, "seed": 5, "max_tokens": 20}
    choice = ask(client, **asked).choices[0]
    entries = choice.logprobs.content
    assert len(entries) > 2
    prompt = engine.prompt(Conversation((Message("user", "Paint it"),)))
    streamed = []
    for chunk in ask(client, **asked, stream=True):
        for part in chunk.choices:
            streamed += part.logprobs.content if part.logprobs else []
    assert streamed == entries
    answer = engine.answer(
        [Conversation((Message("user", "Paint it"),))],
        _sampling(temperature=1.7, seed=5, max_new_tokens=20),
        top_logprobs=3,
    )[0].generated
    values = independent(engine, prompt, list(answer.token_ids))
    for at, (entry, token) in enumerate(zip(entries, answer.token_ids, strict=True)):
        assert entry.logprob == pytest.approx(float(values[at, token]), abs=1e-5)
        best = values[at].topk(3).values.tolist()
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(best, abs=1e-5)
    shown = b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace")
    assert shown.strip() == (choice.message.content or "").strip()


def _sampling(**settings):
    from instil.generation.settings import SamplingSettings

    return SamplingSettings(**settings)


def test_completions_have_logprobs_in_their_own_form(client):
    asked = {"model": "tiny", "prompt": "Peru", "logprobs": 2, "max_tokens": 5}
    logprobs = client.completions.create(**asked).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) > 0
    assert all(len(top) <= 2 for top in logprobs.top_logprobs)
    streamed = []
    for chunk in client.completions.create(**asked, stream=True):
        streamed += chunk.choices[0].logprobs.token_logprobs
    assert streamed == logprobs.token_logprobs


def test_a_frequency_penalty_changes_what_repeats(client):
    plain = ask(client, max_tokens=40).choices[0].message.content
    penalised = ask(client, max_tokens=40, frequency_penalty=2.0, presence_penalty=2.0).choices[0].message.content
    assert plain != penalised


@pytest.fixture(scope="module")
def calling():
    from tests.generation.constraints.random_engine import small_engine

    with Served(small_engine(), max_new_tokens=600) as running:
        yield running.client()


@pytest.mark.slow
def test_forced_calls_are_calls_whole_and_streamed(calling):
    tools = [TOOL, {"type": "function", "function": {"name": "now"}}]
    named = {"type": "function", "function": {"name": "paint"}}
    asked = {"tools": tools, "tool_choice": named, "temperature": 1.5, "seed": 1, "max_tokens": 600}
    choice = ask(calling, **asked).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, call.function.name) == ("tool_calls", None, "paint")
    jsonschema.validate(json.loads(call.function.arguments), SCHEMA)
    streamed = [
        part.function
        for chunk in ask(calling, **asked, stream=True)
        for choice in chunk.choices
        for part in choice.delta.tool_calls or []
    ]
    assert [(part.name, part.arguments) for part in streamed] == [("paint", call.function.arguments)]
    single = ask(calling, **{**asked, "tool_choice": "required", "parallel_tool_calls": False}).choices[0]
    assert [call.function.name in ("paint", "now") for call in single.message.tool_calls] == [True]


@pytest.mark.slow
def test_forms_and_free_answers_are_answered_at_the_same_time(client):
    from concurrent.futures import ThreadPoolExecutor

    alone = ask(client, max_tokens=12).choices[0].message.content
    with ThreadPoolExecutor(6) as pool:
        kinds = [
            {"response_format": FORMAT, "seed": at, "temperature": 1.0} if at % 2 else {"max_tokens": 12}
            for at in range(6)
        ]
        answers = list(pool.map(lambda settings: ask(client, **settings).choices[0].message.content, kinds))
    for at, text in enumerate(answers):
        if at % 2:
            jsonschema.validate(json.loads(text), SCHEMA)
        else:
            assert text == alone
