"""The server, asked by the official client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from itertools import pairwise

import pytest

pytest.importorskip("fastapi")
openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx2")

from tests.generation.http_api.served import Served  # noqa: E402
from tests.tiny_chat import FACTS, folders  # noqa: E402

from instil.errors import ServeError  # noqa: E402
from instil.generation.engine import Engine  # noqa: E402
from instil.generation.http_api import app, service  # noqa: E402
from instil.generation.http_api.server import check_address  # noqa: E402
from instil.generation.http_api.settings import ServeSettings  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def served(engine):
    with Served(engine, max_new_tokens=128, max_body_mb=1) as running:
        yield running


@pytest.fixture(scope="module")
def client(served):
    return served.client()


def ask(client, question, **settings):
    return client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": question}], **settings)


def test_models_are_listed(client, engine):
    assert [model.id for model in client.models.list()] == ["tiny", engine.name]


def test_a_plain_answer_with_counts(client):
    answer = ask(client, "Capital of Peru?")
    assert answer.choices[0].message.content == "Lima"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (35, 5, 40)


def test_streaming_gives_the_same_answer_in_pieces(client):
    for question, answer in FACTS[:4]:
        pieces = list(ask(client, question, stream=True, stream_options={"include_usage": True}))
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text == answer
        assert len(pieces) > 4
        assert pieces[-2].choices[0].finish_reason == "stop"
        assert pieces[-1].usage.completion_tokens == len(answer.encode()) + 1


@pytest.mark.slow
def test_reasoning_and_tool_calls_are_told_apart(client):
    tools = [{"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}]
    said = ask(client, "Think").choices[0].message
    assert (said.content, said.reasoning_content) == ("Yes", "hm hm")
    called = ask(client, "Time?", tools=tools).choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "time"
    assert json.loads(called.message.tool_calls[0].function.arguments) == {}
    untold = ask(client, "Time?").choices[0]
    assert untold.message.content.startswith("<tool_call>")
    pieces = list(ask(client, "Time?", tools=tools, stream=True))
    assert not "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert [
        piece.choices[0].delta.tool_calls[0].function.name for piece in pieces if piece.choices[0].delta.tool_calls
    ] == ["time"]
    thought = list(ask(client, "Think", stream=True))
    assert "".join(getattr(piece.choices[0].delta, "reasoning_content", None) or "" for piece in thought) == "hm hm"
    assert "".join(piece.choices[0].delta.content or "" for piece in thought) == "Yes"


def test_stop_strings_and_lengths(client):
    cut = ask(client, "Say hi", stop=["th", "zz"]).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("Hi ", "stop")
    short = ask(client, "Say hi", max_tokens=2).choices[0]
    assert (short.message.content, short.finish_reason) == ("Hi", "length")
    pieces = list(ask(client, "Say hi", stop="there", stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Hi "


def test_a_seed_repeats_and_several_answers_differ(client):
    settings = {"temperature": 1.5, "seed": 7, "n": 3, "max_tokens": 12}
    first, second = (ask(client, "Something else", **settings) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    assert [choice.index for choice in first.choices] == [0, 1, 2]


def test_a_second_client_joins_a_stream_and_neither_loses_or_repeats_a_token(client, engine):
    assert engine.steps is not None, engine.why_not_plain
    drawn = {"temperature": 5.0, "max_tokens": 100, "extra_body": {"return_token_ids": True}}
    for seed in range(200):
        drawn["seed"] = seed
        alone = ask(client, "Something else", **drawn).choices[0]
        if len(alone.token_ids) > 60:
            break
    assert len(alone.token_ids) > 60

    stream = ask(client, "Something else", stream=True, **drawn)
    ids = list(next(stream).choices[0].token_ids)
    while len(ids) < 5:
        ids += next(stream).choices[0].token_ids
    second = [ask(client, question).choices[0].message.content for question, _ in FACTS[:2]]
    ids += [token for piece in stream for choice in piece.choices for token in choice.token_ids]
    assert ids == alone.token_ids
    assert second == [answer for _, answer in FACTS[:2]]


@pytest.mark.slow
def test_sampling_settings_of_one_request_do_not_touch_another(client):
    wild = [
        threading.Thread(target=ask, args=(client, "x"), kwargs={"temperature": 5.0, "max_tokens": 60})
        for _ in range(4)
    ]
    for thread in wild:
        thread.start()
    assert all(ask(client, question).choices[0].message.content == answer for question, answer in FACTS[:4])
    for thread in wild:
        thread.join()


def test_completions_go_on_with_plain_text(client, engine):
    answer = client.completions.create(model="tiny", prompt="Hello", max_tokens=5)
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.prompt_tokens == 5
    ids = engine.prompt(_conversation("Capital of Norway?"))
    both = client.completions.create(model="tiny", prompt=[ids, ids], max_tokens=20)
    assert [choice.text for choice in both.choices] == ["Oslo", "Oslo"]
    streamed = client.completions.create(model="tiny", prompt=ids, max_tokens=20, stream=True)
    assert "".join(piece.choices[0].text for piece in streamed) == "Oslo"


def _conversation(question):
    from instil.conversation import Conversation, Message

    return Conversation((Message("user", question),))


@pytest.mark.slow
def test_cached_tokens_grow_with_a_conversation_and_its_texts_are_those_of_a_server_without(engine):
    def talk(client, *, stream: bool) -> tuple[list[str], list[tuple[int, int]]]:
        turns, texts, counts = [{"role": "system", "content": "Be brief."}], [], []
        for question, _ in FACTS[:4]:
            turns.append({"role": "user", "content": question})
            given = {"model": "tiny", "messages": turns, "max_tokens": 20}
            if stream:
                given |= {"stream": True, "stream_options": {"include_usage": True}}
                *pieces, last = client.chat.completions.create(**given)
                texts.append("".join(piece.choices[0].delta.content or "" for piece in pieces))
            else:
                last = client.chat.completions.create(**given)
                texts.append(last.choices[0].message.content)
            turns.append({"role": "assistant", "content": texts[-1] or ""})
            counts.append((last.usage.prompt_tokens, last.usage.prompt_tokens_details.cached_tokens))
        return texts, counts

    with Served(engine, prefix_mb=0) as without, without.client() as client:
        expected, counts = talk(client, stream=False)
    assert [cached for _, cached in counts] == [0] * 4
    for stream in (False, True):
        with Served(engine) as running, running.client() as client:  # a server begins with nothing
            texts, counts = talk(client, stream=stream)
        assert texts == expected
        assert counts[0][1] == 0
        # The answer and the header behind it may be printed in another way; the prompt before them is not.
        for (before, _), (prompt, cached) in pairwise(counts):
            assert before - len("assistant\n") - 1 <= cached < prompt


def test_one_prompt_of_several_answers_counts_its_cached_tokens_once(engine):
    # Begins unlike all other questions: the engine may still end one of another server, whose text it keeps then.
    question = "Peru has which capital?"
    with Served(engine) as running, running.client() as client:
        first = ask(client, question, n=2, temperature=1.0, max_tokens=3).usage
        again = ask(client, question, n=2, temperature=1.0, max_tokens=3).usage
    assert first.prompt_tokens_details.cached_tokens == 0
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1


def test_typed_control_tokens_stay_text(client):
    plain = ask(client, "Say hi", max_tokens=1).usage.prompt_tokens
    typed = ask(client, "Say hi<|im_end|>", max_tokens=1).usage.prompt_tokens
    assert typed == plain + len("<|im_end|>")


@pytest.mark.slow
def test_32_at_once_are_all_right(served):
    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0, timeout=60) as client:
            return await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="tiny", messages=[{"role": "user", "content": FACTS[n % 4][0]}]
                    )
                    for n in range(32)
                )
            )

    answers = asyncio.run(all_of_them())
    assert [answer.choices[0].message.content for answer in answers] == [FACTS[n % 4][1] for n in range(32)]
    served.wait_until_idle()


def test_a_mistake_of_the_servers_own_is_told_in_openais_form(served, monkeypatch):
    monkeypatch.setattr(service, "encode_prompts", lambda *_: 1 / 0)
    with served.client() as own, pytest.raises(openai.InternalServerError, match="ZeroDivisionError"):
        ask(own, "Say hi")  # a client of its own, for uvicorn closes the connection behind the mistake


@pytest.mark.slow
@pytest.mark.long
def test_64_clients_without_a_pause_lose_nothing(served):
    """A short form of `benchmarks/after.py --parts load`: good, bad and dropped requests among each other."""
    counts = {"right": 0, "refused": 0, "dropped": 0, "lost": 0}

    async def one(client, number, end):
        asked = number
        while time.monotonic() < end:
            asked += 1
            question, answer = FACTS[asked % 4]
            messages = [{"role": "user", "content": question}]
            try:
                if asked % 7 == 0:
                    await client.chat.completions.create(model="tiny", messages=messages, temperature=-1)
                elif asked % 11 == 0:
                    stream = await client.chat.completions.create(model="tiny", messages=messages, stream=True)
                    await stream.close()
                    counts["dropped"] += 1
                else:
                    said = await client.chat.completions.create(model="tiny", messages=messages)
                    counts["right" if said.choices[0].message.content == answer else "lost"] += 1
            except openai.BadRequestError as error:
                counts["refused" if error.body["param"] == "temperature" else "lost"] += 1
            except openai.OpenAIError:
                counts["lost"] += 1

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0, timeout=120) as client:
            end = time.monotonic() + 5
            await asyncio.gather(*(one(client, number, end) for number in range(64)))

    asyncio.run(all_of_them())
    assert counts["lost"] == 0, counts
    assert min(counts.values()) == 0 < min(counts["right"], counts["refused"], counts["dropped"])
    served.wait_until_idle(60)


def test_a_client_that_leaves_frees_its_place(served, client):
    stream = ask(client, "Something else", temperature=3.0, max_tokens=128, stream=True)
    next(iter(stream))
    stream.close()
    send_unread(served, {"model": "tiny", "temperature": 3.0, "max_tokens": 128}).close()
    served.wait_until_idle()
    assert ask(client, "Say hi").choices[0].message.content == "Hi there!"


def send_unread(served, settings):
    """Ask and read nothing of the answer; gives the open connection, whose buffer is as small as the system allows."""
    messages = [{"role": "user", "content": "x"}]
    body = json.dumps({"messages": messages, **settings})
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect((host, int(port)))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    return connection


@pytest.mark.slow
def test_a_slow_reader_does_not_stall_the_others(engine, monkeypatch):
    ended = []
    choice = app._choice

    def counted(model, writing, **given):
        ended.extend([writing] * given.get("ends", False))
        return choice(model, writing, **given)

    monkeypatch.setattr(app, "_choice", counted)
    name = "tiny" * 5000  # in every event, so that the answers are larger than any socket's buffers
    with Served(engine, served_name=name, max_new_tokens=128) as served:
        slow = send_unread(served, {"model": name, "stream": True, "temperature": 9, "n": 16, "max_tokens": 128})
        end = time.monotonic() + 60
        while len(ended) < 16:
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
        assert served.service._num_in_progress == 16  # all is written, and the reader holds it up
        messages = [{"role": "user", "content": "Say hi"}]
        answer = served.client().chat.completions.create(model=name, messages=messages)
        assert answer.choices[0].message.content == "Hi there!"
        assert served.service._num_in_progress == 16
        received = bytearray()
        while piece := slow.recv(1 << 20):
            received += piece
        slow.close()
        assert b"data: [DONE]" in received[-100:]
        assert received.count(b'"finish_reason": "') == 16
        served.wait_until_idle()


BAD = [
    ({"messages": [{"role": "user", "content": "x" * 600}]}, 400, "The context has 512"),
    ({"messages": []}, 400, "empty list"),
    ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role: found 'robot'"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, ""),
    ({}, 400, "messages"),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"top_p": 2}, 400, "top_p"),
    ({"max_tokens": 0}, 400, "max_tokens: found 0"),
    ({"max_tokens": 100000}, 400, "This server allows 128"),
    ({"n": 99}, 400, "1 to 16"),
    ({"stop": [""]}, 400, "stop"),
    ({"top_logprobs": 5}, 400, "top_logprobs"),
    ({"logit_bias": {"5": 1}}, 400, "logit_bias"),
    ({"tempreture": 1}, 400, "did you mean 'temperature'"),
    ({"stream": "yes"}, 400, "stream"),
    ({"model": "gpt-4"}, 404, "Served here: tiny"),
]


@pytest.mark.parametrize(("change", "status", "said"), BAD)
def test_a_bad_request_is_told_in_openais_form(served, change, status, said):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]} | change
    if change == {}:
        del body["messages"]
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_the_clients_own_errors_are_raised(client):
    with pytest.raises(openai.NotFoundError, match="other"):
        client.chat.completions.create(model="other", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="context has 512"):
        ask(client, "x" * 600)


@pytest.mark.slow
def test_broken_and_large_bodies_are_refused(served):
    url = f"{served.url}/v1/chat/completions"
    json_type = {"content-type": "application/json"}
    assert httpx.post(url, content=b"{", headers=json_type).status_code == 400
    assert httpx.post(url, content=b"[1]", headers=json_type).status_code == 400
    assert httpx.post(url, content=b"\xff\xfe", headers=json_type).status_code == 400
    assert httpx.post(url, content=b"[" * 100_000, headers=json_type).status_code == 400
    assert httpx.post(url, content=b"{}").status_code == 415
    assert httpx.get(f"{served.url}/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(url).status_code == 405
    assert httpx.get(f"{served.url}/health").json() == {"status": "ok"}
    large = b'{"x": "' + b"a" * 10_000_000 + b'"}'
    with contextlib.suppress(httpx.WriteError):  # the server may close before all of it is sent
        assert httpx.post(url, content=large, headers=json_type, timeout=30).status_code == 413
    assert httpx.get(f"{served.url}/health").status_code == 200


def test_another_name_for_this_machine_is_refused(served):
    answer = httpx.get(f"{served.url}/v1/models", headers={"host": "evil.example"})
    assert answer.status_code == 403


@pytest.mark.slow
def test_a_key_is_asked_for_and_requests_beyond_the_limit_are_refused(engine):
    with Served(engine, api_key="secret", max_requests=2, max_new_tokens=128) as served:
        with pytest.raises(openai.AuthenticationError, match="key"):
            ask(served.client(api_key="wrong"), "Say hi")
        client = served.client(api_key="secret")
        assert ask(client, "Say hi").choices[0].message.content == "Hi there!"
        with pytest.raises(openai.RateLimitError, match="429"):
            ask(client, "Say hi", n=3)


@pytest.mark.slow
def test_time_is_limited(engine):
    with Served(engine, max_seconds=0.2, max_new_tokens=480) as served:
        with pytest.raises(openai.APIStatusError) as error:
            ask(served.client(), "go on", temperature=9.0, n=16, max_tokens=400)
        assert error.value.status_code == 504
        served.wait_until_idle()


@pytest.mark.slow
def test_a_stream_whose_time_is_over_says_so_in_its_last_event(engine):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "go on"}], "stream": True}
    body |= {"temperature": 9.0, "n": 16, "max_tokens": 400}
    for seconds in (0.3, 1.0, 5.0):  # a machine that has no token ready by then answers 504 in place of a stream
        with Served(engine, max_seconds=seconds, max_new_tokens=480) as served:
            answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60)
            served.wait_until_idle()
        if answer.status_code == 200:
            break
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert answer.status_code == 200
    assert json.loads(events[0])["object"] == "chat.completion.chunk"
    assert f"not answered within {seconds:g} seconds" in json.loads(events[-1])["error"]["message"]


@pytest.mark.slow
def test_a_base_model_takes_completions_only():
    with Served(Engine.load(folders()["base"])) as served:
        with pytest.raises(openai.BadRequestError, match="no chat template"):
            ask(served.client(), "hi")
        assert served.client().completions.create(model="tiny", prompt="a", max_tokens=3).usage.completion_tokens <= 3


def test_open_addresses_need_a_key(monkeypatch):
    monkeypatch.delenv("INSTIL_API_KEY", raising=False)
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"):
        with pytest.raises(ServeError, match="api_key"):
            check_address(ServeSettings(host=host))
        assert check_address(ServeSettings(host=host, api_key="k")).api_key == "k"
    for host in ("127.0.0.1", "localhost", "::1"):
        assert check_address(ServeSettings(host=host)).api_key is None
    monkeypatch.setenv("INSTIL_API_KEY", "k")
    assert check_address(ServeSettings(host="0.0.0.0")).api_key == "k"
