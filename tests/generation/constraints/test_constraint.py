"""A random model under a form writes the form, whatever the tokenizer."""

from __future__ import annotations

import contextlib
import json
import time
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

from tests.corpus import corpus_path, needs_corpus  # noqa: E402
from tests.generation.constraints.random_engine import HERMES, engine_of, small_engine  # noqa: E402
from tests.tiny_chat import folders  # noqa: E402

from instil.conversation import Conversation, Message  # noqa: E402
from instil.encoding.chat_tokenizer import ChatTokenizer  # noqa: E402
from instil.errors import GenerationError  # noqa: E402
from instil.generation.constraints.forms import JsonForm  # noqa: E402
from instil.generation.engine import Engine  # noqa: E402
from instil.generation.settings import SamplingSettings  # noqa: E402

ASKED = Conversation((Message("user", "hi"),))


def closed(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SCHEMAS = {
    "nested": closed(a=closed(b={"type": "boolean"})),
    "enum": closed(c={"enum": ["red", "grün", "青", 1, None]}),
    "const": {"const": {"a": [1, "x"]}},
    "pattern": closed(c={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}),
    "range": closed(n={"type": "integer", "minimum": -3, "maximum": 17}),
    "exclusive": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 4},
    "array": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 4},
    "tuple": {"type": "array", "prefixItems": [{"enum": ["x"]}, {"type": "null"}], "items": False, "minItems": 2},
    "unicode": closed(**{'名前 "q" é': {"enum": ["日本\n", "ß\\"]}}),
    "reference": {"$defs": {"p": closed(x={"type": "null"})}, **closed(p={"$ref": "#/$defs/p"})},
    "any of": {"anyOf": [{"type": "null"}, closed(a={"type": "boolean"})]},
    "one of": {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
    "all of": {"allOf": [{"minimum": 3}, {"maximum": 5}], "type": "integer"},
    "date": closed(d={"type": "string", "format": "date"}),
    "map": {"type": "object", "patternProperties": {"^x$": {"type": "null"}}, "additionalProperties": False, "minProperties": 1},
    "at most": {"type": "object", "additionalProperties": {"type": "null"}, "maxProperties": 0},
}  # fmt: skip


def check(engine, schema, *, seed=0, answers=2):
    asked = SamplingSettings(temperature=1.5, seed=seed, num_answers=answers, max_new_tokens=400)
    for answer in engine.answer([ASKED], asked, form=JsonForm(schema=schema)):
        assert answer.generated.finish_reason == "stop"
        assert answer.generated.stop_id in engine.stop_ids
        jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(
            json.loads(answer.content)
        )


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_keyword_is_enforced(name):
    check(small_engine(), SCHEMAS[name])


values = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(st.text(max_size=5) | st.integers(-99, 99), min_size=1, max_size=3).map(lambda items: {"enum": items}),
    st.tuples(st.integers(-50, 50), st.integers(0, 50)).map(
        lambda pair: {"type": "integer", "minimum": pair[0], "maximum": sum(pair)}
    ),
)
schemas = st.recursive(
    values,
    lambda inner: st.one_of(
        st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3).map(lambda found: closed(**found)),
        inner.map(lambda item: {"type": "array", "items": item, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=2).map(lambda items: {"anyOf": items}),
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=20)
@given(schemas, st.integers(0, 1_000))
def test_drawn_schemas_are_enforced(schema, seed):
    check(small_engine(), schema, seed=seed, answers=1)


@cache
def corpus_engine(name):
    return engine_of(corpus_path() / "tokenizers" / name)


@pytest.mark.slow
@needs_corpus()
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("qwen2.5-instruct", marks=pytest.mark.long),
        pytest.param("llama-3.1-instruct", marks=pytest.mark.long),
        *("mistral-7b-instruct-v0.3", "llama-2-chat", "smollm2-instruct"),
    ],
)
def test_real_tokenizers_write_the_form(name):
    for key in ("enum", "unicode", "pattern", "range", "tuple"):
        check(corpus_engine(name), SCHEMAS[key])


def test_a_reasoning_block_that_the_prompt_opens_is_closed_first():
    engine = small_engine()
    asked = Conversation((Message("user", "hi"),), variables={"thinking": True})
    begun = engine.constraint(JsonForm(schema=SCHEMAS["range"]), engine.prompt(asked))
    logits = begun.start().apply(torch.zeros(len(engine.tokenizer) + 3))
    assert all(logits[stop] == float("-inf") for stop in engine.stop_ids)
    begun.start(engine.tokenizer('so\n</think>\n\n{"n": 1', add_special_tokens=False)["input_ids"])
    with pytest.raises(GenerationError, match="is not the beginning"):
        begun.start(engine.tokenizer('</think>{"m": 1', add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(("special", "may_reason"), [(True, True), (False, False)])
def test_a_model_opens_reasoning_itself_only_with_an_added_token(special, may_reason):
    """Written as ordinary tokens, the tag is text that a weak model begins by chance and then never closes."""
    source = HERMES.replace("{% if thinking %}<think>\n{% endif %}", "{# <think> </think> #}")
    engine = engine_of(folders()["tuned"], source)
    if special:
        engine.tokenizer.add_tokens(["<think>", "</think>"])
        engine = Engine(engine.model, engine.tokenizer, chat=ChatTokenizer.from_tokenizer(engine.tokenizer))
        engine.model.resize_token_embeddings(len(engine.tokenizer) + 3)
    begun = engine.constraint(JsonForm(schema=SCHEMAS["range"]), engine.prompt(ASKED))
    ids = engine.tokenizer('<think>so</think>{"n": 1', add_special_tokens=False)["input_ids"]
    if may_reason:
        begun.start(ids)
    else:
        with pytest.raises(GenerationError, match="is not the beginning"):
            begun.start(ids)
    begun.start(engine.tokenizer('{"n": 1', add_special_tokens=False)["input_ids"])


@pytest.mark.slow
def test_a_schema_that_takes_too_many_steps_is_refused():
    wide = {"anyOf": [{"type": "object", "properties": {f"a{at}": {"type": "string"}}} for at in range(1_500)]}
    engine = small_engine()
    with pytest.raises(GenerationError, match=r"^schema: .*(Use a simpler|Change the) schema"):
        engine.constraint(JsonForm(schema=wide), engine.prompt(ASKED))


@pytest.mark.parametrize("pattern", ["^(([a-z]{1,500}){1,500}[0-9]{1,500}){1,500}$", "^(.*a.{60}|.*b.{50}|.*c.{70})$"])
def test_a_slow_pattern_ends_in_time(pattern):
    start, form = time.monotonic(), JsonForm(schema={"type": "string", "pattern": pattern})
    asked = SamplingSettings(max_new_tokens=30, temperature=1, seed=1)
    with contextlib.suppress(GenerationError):  # too many steps for one vocabulary, not for another
        assert small_engine().answer([ASKED], asked, form=form)[0].generated.finish_reason == "length"
    assert time.monotonic() - start < 20


def test_stop_strings_beside_a_form_are_refused():
    with pytest.raises(GenerationError, match="stop: found beside a form"):
        small_engine().answer([ASKED], SamplingSettings(stop=("x",)), form=JsonForm(schema={}))
