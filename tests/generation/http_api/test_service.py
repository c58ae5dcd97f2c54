"""What a request may cost: size of the body, tokens of the prompt, answers in progress."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")

from starlette.requests import Request
from tests.tiny_chat import tiny_llama, tiny_tokenizer

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.generation.engine import Engine
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.requests import read_chat
from instil.generation.http_api.service import Service
from instil.generation.http_api.settings import ServeSettings
from instil.generation.http_api.worker import Worker


@pytest.fixture(scope="module")
def engine():
    tokenizer = tiny_tokenizer()
    return Engine(tiny_llama(layers=1), tokenizer, chat=ChatTokenizer.from_tokenizer(tokenizer), name="runs/tiny")


def service(engine, **given):
    worker = Worker(engine, cache_tokens=4096)
    worker._batch = SimpleNamespace(alive=True)  # nothing is generated in these tests
    return Service(engine, worker, ServeSettings(served_name="tiny", **given))


def read(engine, body, *, kind="application/json", coding=None, size=7, **given):
    """Have the service read a body that arrives in pieces."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    headers = [(b"content-type", kind.encode()), *([(b"content-encoding", coding.encode())] if coding else [])]

    async def receive():
        if not pieces:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    return asyncio.run(service(engine, **given).read(Request({"type": "http", "headers": headers}, receive)))


def test_a_body_in_pieces_is_read_under_either_name(engine):
    for name in ("tiny", "runs/tiny"):
        assert read(engine, {"model": name, "seed": None}) == {"model": name}
    assert read(engine, {"model": "tiny"}, kind="application/json; charset=utf-8") == {"model": "tiny"}


@pytest.mark.parametrize(
    ("body", "given", "status", "words"),
    [
        ({"model": "tiny"}, {"kind": "text/plain"}, 415, "found text/plain"),
        ({"model": "tiny"}, {"kind": ""}, 415, "found none"),
        ({"model": "tiny"}, {"coding": "gzip"}, 415, "found gzip"),
        ({"model": "tiny", "user": "x" * 2000}, {"max_body_mb": 0.001}, 413, "larger than 0.001 MB"),
        ({"model": "other"}, {}, 404, "Served here: tiny, runs/tiny"),
        ({"model": 3}, {}, 400, "model: found 3"),
        ({}, {}, 400, "model: missing"),
        (b"[]", {}, 400, "Expected an object"),
    ],
)
def test_a_body_that_is_not_served_is_told(engine, body, given, status, words):
    with pytest.raises(Problem) as caught:
        read(engine, body, **given)
    assert (caught.value.status, words in caught.value.message) == (status, True)


def writings(service, text="Hi", **keys):
    request = read_chat({"messages": [{"role": "user", "content": text}], **keys}, most=64)
    return asyncio.run(service.writings(request))


def test_each_answer_has_a_seed_of_its_own_and_the_prompt_of_all(engine):
    three = writings(service(engine), n=3, seed=7, temperature=1)
    assert [(answer.number, answer.settings.seed, answer.settings.num_answers) for answer in three] == [
        (0, 7, 1),
        (1, 8, 1),
        (2, 9, 1),
    ]
    assert len({id(answer.prompt) for answer in three}) == 1


def test_long_prompts_and_many_answers_are_refused(engine):
    with pytest.raises(Problem, match="The context has 512, answer included") as caught:
        writings(service(engine), "x" * 600)
    assert caught.value.code == "context_length_exceeded"
    busy = service(engine, max_requests=4)

    async def while_in_progress():
        request = read_chat({"messages": [{"role": "user", "content": "Hi"}], "n": 2}, most=64)
        async with busy.in_progress(2):
            assert len(await busy.writings(request)) == 2
            async with busy.in_progress(1):
                await busy.writings(request)

    with pytest.raises(Problem, match="3 answers are in progress") as caught:
        asyncio.run(while_in_progress())
    assert caught.value.status == 429
    assert len(writings(busy, n=4)) == 4  # their places are free again
