"""The ids of a request's prompts are those of the engine; what cannot be encoded is told as the request's fault."""

from __future__ import annotations

import pytest
from tests.tiny_chat import tiny_llama, tiny_tokenizer

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.generation.engine import Engine
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.prompts import EncodedPrompt, encode_prompts
from instil.generation.http_api.requests import read_chat, read_completion

USER = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "So"}


def engine(template=None):
    tokenizer = tiny_tokenizer()
    chat = ChatTokenizer.from_tokenizer(tokenizer, template)
    return Engine(tiny_llama(layers=1), tokenizer, chat=chat, name="tiny")


@pytest.fixture(scope="module")
def tiny():
    return engine()


def chat(tiny, *messages, **keys):
    return encode_prompts(tiny, read_chat({"messages": list(messages), **keys}, most=9))


def test_a_chat_is_encoded_as_by_the_engine_with_and_without_a_begun_answer(tiny):
    asked = Conversation((Message("user", "Hi"),))
    begun = Conversation((*asked.messages, Message("assistant", "So")))
    assert chat(tiny, USER) == [EncodedPrompt(tuple(tiny.prompt(asked)))]
    assert chat(tiny, USER, BEGUN) == [EncodedPrompt(tuple(tiny.prompt(begun)))]
    ids, count = tiny.begun_prompt(begun)
    assert chat(tiny, USER, BEGUN, continue_final_message=True) == [EncodedPrompt(tuple(ids), count)]
    assert (count, ids[:-count]) == (2, tiny.prompt(asked))


def test_texts_and_ids_are_encoded_as_they_are(tiny):
    request = read_completion({"prompt": ["Hi", "you"]}, most=9)
    assert [prompt.token_ids for prompt in encode_prompts(tiny, request)] == [
        tuple(tiny.plain_prompt("Hi")),
        tuple(tiny.plain_prompt("you")),
    ]
    assert encode_prompts(tiny, read_completion({"prompt": [1, 2]}, most=9)) == [EncodedPrompt((1, 2))]
    with pytest.raises(Problem, match=r"found token id 999\. The vocabulary has 259"):
        encode_prompts(tiny, read_completion({"prompt": [1, 999]}, most=9))


def test_a_model_without_a_template_has_no_chat():
    base = Engine(tiny_llama(layers=1), tiny_tokenizer(template=False), chat=None, name="base")
    with pytest.raises(Problem, match="base has no chat template"):
        chat(base, USER)


REFUSES = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system text') }}{% endif %}{{ m.role }}:{{ m.content | trim }}<|im_end|>{% endfor %}assistant:"  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "keys", "words"),
    [
        ([{"role": "system", "content": "x"}, USER], {}, "No system text"),
        ([USER, BEGUN | {"content": "So "}], {"continue_final_message": True}, "ends with 'So '"),
        ([USER, BEGUN | {"content": " "}], {"continue_final_message": True}, "prints differently|begun answer"),
    ],
)
def test_what_the_template_refuses_is_the_requests_fault(messages, keys, words):
    with pytest.raises(Problem, match=words) as caught:
        chat(engine(REFUSES), *messages, **keys)
    assert (caught.value.status, caught.value.param) == (400, "messages")
    assert "conversation:" not in caught.value.message
