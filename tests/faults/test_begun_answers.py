"""Begun answers: spaces of SentencePiece tokenizers, and calls that go back into a chat as text."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tests.tiny_chat import tiny_llama, tiny_tokenizer

import instil
from instil.conversation import Conversation, Message, ToolCall
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.generation.engine import Engine
from instil.generation.parsing.complete import message_of
from instil.generation.sampling import Generated
from instil.generation.session import Session
from instil.generation.settings import SamplingSettings

WORDS = ("Lima", "is", "the", "capital", "of", "Peru", "and", "large", "Where")
TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}<e>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def words_engine() -> Engine:
    """Return a random model whose every token begins with a space, which its tokenizer drops from the first one."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: at for at, word in enumerate(["<unk>", *(f"▁{word}" for word in WORDS)])}
    backend = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    headers = ("<s>", "<e>", "user:", "assistant:")
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in headers])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>", unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=11, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # words only: no header, no unknown token
        model.lm_head.weight[[0, 10, 11, 12, 13]] = 0
        model.lm_head.weight[1:10].abs_().mul_(30)
        model.model.norm.weight.abs_()
    return Engine(model, tokenizer, chat=ChatTokenizer.from_tokenizer(tokenizer), name="words")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return words_engine()


BEGUN = Conversation((Message("user", "Where is Lima"), Message("assistant", "Lima is")))
SETTINGS = SamplingSettings(max_new_tokens=5, temperature=1.0, seed=1)


def test_the_space_between_a_begun_text_and_its_continuation_is_kept(engine: Engine) -> None:
    (answer,) = engine.answer([BEGUN], SETTINGS, continue_final_message=True)
    assert answer.text.startswith(" ")
    assert len(answer.text.split()) == answer.generated.num_tokens == 5
    assert answer.message.content == "Lima is" + answer.text
    stream = engine.stream(BEGUN, SETTINGS, continue_final_message=True)
    pieces = list(stream)
    assert ("".join(pieces), stream.answer.text, stream.answer.message) == (answer.text, answer.text, answer.message)
    assert pieces[0].startswith(" ")
    parsed = message_of(engine.stream(BEGUN, SETTINGS, continue_final_message=True).deltas())
    assert parsed == answer.message
    last = answer.text.split()[-1]
    stopping = SamplingSettings(max_new_tokens=5, temperature=1.0, seed=1, stop=(f" {last}",))
    (stopped,) = engine.answer([BEGUN], stopping, continue_final_message=True)
    assert stopped.text == answer.text[: answer.text.index(f" {last}")]
    # An answer that nothing begins has no space in front.
    (whole,) = engine.answer([Conversation(BEGUN.messages[:1])], SETTINGS)
    assert not whole.text.startswith(" ")


@pytest.mark.slow
def test_the_server_keeps_the_space(engine: Engine) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from instil.generation.http_api.app import create_app
    from instil.generation.http_api.settings import ServeSettings

    turns = [{"role": "user", "content": "Where is Lima"}, {"role": "assistant", "content": "Lima is", "prefix": True}]
    body = {"model": "words", "messages": turns, "max_tokens": 5}
    settings = SamplingSettings(max_new_tokens=5)
    (expected,) = engine.answer([BEGUN], settings, continue_final_message=True)
    with TestClient(create_app(engine, ServeSettings()), base_url="http://localhost") as client:
        whole = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        echoed = client.post("/v1/chat/completions", json=body | {"echo": True}).json()["choices"][0]["message"]
        lines = client.post("/v1/chat/completions", json=body | {"stream": True}).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line and "[DONE]" not in line]
    streamed = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert whole == streamed == expected.text
    assert whole.startswith(" ")
    assert echoed["content"] == "Lima is" + whole


OPENS_REASONING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content or '' }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
CALL = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


def kept(session: Session, text: str) -> Message:
    """Return what a session keeps of an answer with this text."""
    engine, conversation = session.engine, session.conversation
    if session.begun:
        turns = (*conversation.messages, Message("assistant", session.begun))
        prompt, num_begun = engine.begun_prompt(Conversation(turns))
    else:
        prompt, num_begun = engine.prompt(conversation), 0
    ids = tuple(engine.tokenizer(text, add_special_tokens=False)["input_ids"])
    generated = Generated(token_ids=ids, finish_reason="stop", stop_id=258, seed=0)
    answer = engine.answer_of(prompt, generated, tools=None, num_begun=num_begun)
    assert answer.message.tool_calls == (ToolCall("time", {}),)
    session.keep(answer)
    return session.turns[-1]


def chat_session(template: str | None, **keys: Any) -> Session:
    model, tokenizer = tiny_llama(layers=1), tiny_tokenizer()
    engine = Engine(model, tokenizer, chat=ChatTokenizer.from_tokenizer(tokenizer, template))
    return Session(engine=engine, settings=SamplingSettings(), turns=[Message("user", "Time?")], **keys)


@pytest.mark.parametrize("text", [f"hm\n</think>\n\n{CALL}", f"<think>\nhm\n</think>\n\n{CALL}"])
def test_reasoning_that_the_prompt_opened_does_not_become_text(text: str) -> None:
    message = kept(chat_session(OPENS_REASONING), text)
    assert (message.reasoning, message.content, message.tool_calls) == ("hm", CALL, ())


def test_the_begun_part_of_a_call_is_kept(tmp_path: Any) -> None:
    session = chat_session(None, begun=f"Now: {CALL[:20]}")
    assert kept(session, CALL[20:]) == Message("assistant", f"Now: {CALL}")
    session.save(tmp_path / "rows.jsonl")
    (row,) = instil.read(tmp_path / "rows.jsonl")
    assert row.messages[-1].content == f"Now: {CALL}"
