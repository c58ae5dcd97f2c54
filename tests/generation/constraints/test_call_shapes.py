"""Forced calls in the syntax that a template prints."""

from __future__ import annotations

import pytest

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

from tests.corpus import corpus_path, needs_corpus  # noqa: E402
from tests.generation.constraints.random_engine import engine_of, small_engine  # noqa: E402

from instil.conversation import Conversation, Message  # noqa: E402
from instil.errors import GenerationError  # noqa: E402
from instil.generation.constraints.call_shapes import read_shape  # noqa: E402
from instil.generation.constraints.forms import CallForm  # noqa: E402
from instil.generation.settings import SamplingSettings  # noqa: E402

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Lima", "Huế"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
TOOLS = (
    *tuple(
        {"type": "function", "function": {"name": name, "description": "It tells.", "parameters": SCHEMA}}
        for name in ("weather", "time")
    ),
    {"type": "function", "function": {"name": "now", "description": "The hour."}},
)


def calls_of(engine, form, **settings):
    asked = Conversation((Message("user", "hi"),), tools=TOOLS)
    sampling = SamplingSettings(temperature=1.5, seed=0, num_answers=4, max_new_tokens=300, **settings)
    answers = engine.answer([asked], sampling, form=form)
    found = [answer for answer in answers if answer.generated.finish_reason == "stop"]
    assert found
    for answer in found:
        assert answer.message.content is None
        assert answer.message.tool_calls
        for call in answer.message.tool_calls:
            jsonschema.validate(call.arguments, {} if call.name == "now" else SCHEMA)
            assert call.name != "now" or call.arguments == {}
    return [answer.message.tool_calls for answer in found]


def check_calls(engine):
    several = calls_of(engine, CallForm(tools=TOOLS))
    assert {call.name for calls in several for call in calls} <= {"weather", "time", "now"}
    named = calls_of(engine, CallForm(tools=TOOLS, name="time", several=False))
    assert [[call.name for call in calls] for calls in named] == [["time"]] * len(named)


@pytest.mark.slow
def test_calls_are_written_in_the_syntax_of_the_template():
    shape = read_shape(small_engine().chat, place="tool_choice")
    assert (shape.before, shape.middle) == ('<tool_call>{"name": "', '", "arguments": ')
    check_calls(small_engine())


@pytest.mark.slow
@needs_corpus()
@pytest.mark.parametrize(
    "name", [pytest.param("qwen2.5-instruct", marks=pytest.mark.long), "llama-3.1-instruct", "mistral-7b-instruct-v0.3"]
)
def test_calls_of_real_templates(name):
    check_calls(engine_of(corpus_path() / "tokenizers" / name))


def test_a_template_without_calls_is_refused():
    from tests.tiny_chat import folders

    with pytest.raises(GenerationError, match=r"^tool_choice: the template prints .*Use tool_choice auto"):
        read_shape(engine_of(folders()["tuned"]).chat, place="tool_choice")
    with pytest.raises(GenerationError, match=r"^tool_choice: the model has no chat template"):
        read_shape(None, place="tool_choice")
