"""The tokens of a chat, asked of a real server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

pytest.importorskip("fastapi")


from instil.conversation import Conversation, Message

pytestmark = pytest.mark.filterwarnings("ignore")
QUESTION = [{"role": "user", "content": "Think"}]


def post(served, path, body, **headers):
    data = json.dumps({"model": "tiny", **body}).encode()
    request = urllib.request.Request(served.url + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def tokens(served, **body):
    return post(served, "/instil/tokens", {"messages": QUESTION} | body)


@pytest.mark.slow
def test_the_ids_are_those_of_the_prompt_and_the_answer(served, engine):
    _, answer = post(served, "/v1/chat/completions", {"messages": QUESTION, "return_token_ids": True})
    ids = answer["choices"][0]["token_ids"]
    assert len(ids) == answer["usage"]["completion_tokens"]
    assert engine.chat.decode(ids) == "<think>\nhm hm\n</think>\n\nYes<|im_end|>"
    status, shown = tokens(served, token_ids=ids)
    assert status == 200
    prompt = engine.prompt(Conversation((Message("user", "Think"),)))
    assert [token["id"] for token in shown["tokens"]] == [*prompt, *ids]
    assert shown["num_prompt"] == len(prompt) == answer["usage"]["prompt_tokens"]
    assert "".join(token["text"] for token in shown["tokens"]) == engine.chat.decode([*prompt, *ids])


def test_every_token_has_its_origin(served):
    _, shown = tokens(served, token_ids=[56, 258])
    texts = {}
    for token in shown["tokens"]:
        texts[token["origin"]] = texts.get(token["origin"], "") + token["text"]
    assert texts == {
        "template": "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n",
        "message": "Think",
        "generated": "Y<|im_end|>",
    }
    assert [name for _, name in shown["blocks"]] == ["1 user", "2 assistant"]
    assert shown["roles"] == ["user", "assistant"]


def test_a_prompt_alone_has_no_generated_token(served):
    status, shown = tokens(served)
    assert status == 200
    assert len(shown["tokens"]) == shown["num_prompt"]
    assert {token["origin"] for token in shown["tokens"]} == {"template", "message"}


def test_a_stream_sends_every_id_once(served):
    body = {"model": "tiny", "messages": QUESTION, "return_token_ids": True, "stream": True}
    request = urllib.request.Request(
        f"{served.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = [line[6:] for line in answer.read().decode().split("\n\n") if line.startswith("data: {")]
    streamed = [token for line in lines for choice in json.loads(line)["choices"] for token in choice["token_ids"]]
    _, whole = post(served, "/v1/chat/completions", {"messages": QUESTION, "return_token_ids": True})
    assert streamed == whole["choices"][0]["token_ids"]


def test_no_id_is_sent_without_being_requested(served):
    _, answer = post(served, "/v1/chat/completions", {"messages": QUESTION})
    assert "token_ids" not in answer["choices"][0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"token_ids": "1,2"}, "token_ids"),
        ({"token_ids": [1, -3]}, "token_ids[1]"),
        ({"token_ids": [True]}, "token_ids[0]"),
        ({"token_ids": [10**9]}, "token_ids[0]"),
        ({"token_ids": [1.5]}, "token_ids[0]"),
        ({"token_ids": [7] * 600}, "token_ids"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a b " * 300}]}, "messages"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "Yes"}], "stream": True}, "stream"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_a_wrong_request_is_refused_by_its_key(served, body, param):
    status, answer = tokens(served, **body)
    assert status == 400
    assert answer["error"]["param"] == param


def test_the_checks_are_those_of_the_api(served):
    assert post(served, "/instil/tokens", {"messages": QUESTION}, Host="evil.example")[0] == 403
    status, answer = post(served, "/instil/tokens", {"messages": QUESTION}, **{"Content-Type": "text/plain"})
    assert (status, answer["error"]["message"][:12]) == (415, "content type")
    assert tokens(served, model="other")[0] == 404


def test_it_counts_among_the_requests_in_progress(served):
    served.service._num_in_progress += served.settings.max_requests
    try:
        assert tokens(served)[0] == 429
    finally:
        served.service._num_in_progress -= served.settings.max_requests


def test_a_row_has_the_weights_of_training(served):
    """Both answers are trained, their stop tokens included; questions and the template's text are not."""
    two = [QUESTION[0], {"role": "assistant", "content": "Yes"}, *QUESTION, {"role": "assistant", "content": "No"}]
    status, row = tokens(served, messages=two, as_row=True)
    assert status == 200
    trained = ["".join(token["text"] for token in example["tokens"] if token["weight"]) for example in row["examples"]]
    assert trained == ["Yes<|im_end|>No<|im_end|>"]
    assert [name for _, name in row["examples"][0]["blocks"]][:2] == ["1 user", "2 assistant"]
    status, refused = tokens(served, messages=two, as_row=True, token_ids=[1])
    assert (status, refused["error"]["param"]) == (400, "token_ids")
    status, refused = tokens(served, as_row="yes")
    assert (status, refused["error"]["param"]) == (400, "as_row")
